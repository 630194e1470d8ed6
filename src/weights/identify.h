#pragma once

#include "easel/weights.h"

namespace easel {

// A kind of file that is known by the names of its tensors. Patterns as of a shell: `*` stands for anything.
struct KindRow {
  const char* title;
  FileKind kind;
  std::vector<std::string> all_of;
};
// In the order in which they are tried.
const std::vector<KindRow>& kind_table();

// A part in one of the forms it is stored in.
struct PartRow {
  FilePart part;
  std::string clue;    // the tensor below the prefix that shows it
  std::string family;  // where this form belongs to one family
};
const std::vector<PartRow>& part_table();

// A family, whatever its prediction type.
struct FamilyNames {
  const char* family;
  const char* title;
  int64_t context;  // width of the text that the U-Net attends to
};
const std::vector<FamilyNames>& family_names();

// Which configs a file of this family needs.
struct SpecRow {
  const char* family;
  int64_t in_channels;
  const char* prediction;  // empty: any
  const char* spec;
  int64_t pruned_depth = 0;  // of an SDXL U-Net without middle attention: transformer layers of the lowest level
};
const std::vector<SpecRow>& spec_table();

}  // namespace easel
