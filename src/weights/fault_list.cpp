#include "weights/fault_list.h"

namespace easel {

void FaultList::add(const std::string& fault) {
  if (++count_ <= kShown) shown_.push_back(begin_ + fault);
}

void FaultList::append_to(Faults& all) const {
  for (const std::string& line : shown_) all.add(line);
  if (count_ > kShown) all.add(begin_ + "and " + std::to_string(count_ - kShown) + " more " + kind_);
}

void FaultList::raise_if_any(const std::string& hint) const {
  Faults all;
  append_to(all);
  all.raise_if_any(ErrorKind::kFile, hint);
}

}  // namespace easel
