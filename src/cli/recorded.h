// What a PNG's text `easel` says of the picture: png_texts() read back.
#pragma once

#include "easel/pipeline.h"

namespace easel::cli {

struct Recorded {
  std::filesystem::path file;
  Request request;                              // resolved, by the program that drew it
  ModelHashes hashes;                           // empty where not recorded
  std::map<std::string, std::string> versions;  // "easel", "libtorch"
};

// Keys that are not known are left out with a warning: a newer program wrote them. Throws Error(kFile) with every fault
// for what is no PNG, carries no such text or a damaged one: no JSON, values that the table of fields refuses, no
// prompt, seed, model, device or dtype.
Recorded read_recorded(const std::filesystem::path& file);

bool is_set(const Request& request, const RequestField& field);
void unset(Request& request, const RequestField& field);

}  // namespace easel::cli
