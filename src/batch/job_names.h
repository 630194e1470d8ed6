// What a name in a job file stands for.
#pragma once

#include "easel/pipeline.h"

namespace easel {

enum class JobKey { kField, kBatchCount, kWildcards, kOutput, kId, kCancel };

struct JobName {
  JobKey key;
  const RequestField* field;  // of kField
};

// By a flag's name without dashes in front, with '-' or '_' inside; the table's and those of A1111 and kohya.
std::optional<JobName> find_job_flag(std::string_view name);
// By a JSON key or a CSV column.
std::optional<JobName> find_job_key(std::string_view name);

// "; did you mean --steps, …?" and why where the name belongs to somebody else's line.
std::string hint_for_flag(std::string_view name);
std::string hint_for_key(std::string_view name);

}  // namespace easel
