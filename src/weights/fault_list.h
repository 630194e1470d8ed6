#pragma once

#include "easel/core.h"

namespace easel {

// Faults of one kind: the first 20 in full, then how many more there are. A wrong config.json makes thousands.
class FaultList {
 public:
  // Each line begins with `begin`; `kind`, in the plural, is counted: "and 12 more missing tensors".
  FaultList(std::string begin, std::string kind) : begin_(std::move(begin)), kind_(std::move(kind)) {}

  void add(const std::string& fault);
  // The lines so far, with the last one that counts.
  void append_to(Faults& all) const;
  void raise_if_any(const std::string& hint) const;  // Error(kFile)

 private:
  static constexpr std::size_t kShown = 20;
  std::string begin_, kind_;
  std::vector<std::string> shown_;
  std::size_t count_ = 0;
};

}  // namespace easel
