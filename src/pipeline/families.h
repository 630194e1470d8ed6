#pragma once

#include "easel/pipeline.h"

namespace easel {

// By FamilyRow::name, which must be in the table.
const FamilyRow& family_row(std::string_view name);
// Whether any family is published under that _class_name.
bool is_pipeline_class(const std::string& name);
// Of a checkpoint whose text encoders and U-Net are read.
const FamilyRow& family_of_parts(const Checkpoint& checkpoint);

// The table's titles, for messages.
std::string supported_families();

}  // namespace easel
