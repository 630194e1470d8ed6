#include "easel/core.h"

namespace easel {

namespace {

std::string joined(const std::vector<std::string>& faults) {
  std::string text;
  for (const std::string& fault : faults) text += (text.empty() ? "" : "\n") + fault;
  return text;
}

}  // namespace

Error::Error(ErrorKind kind, std::string what, std::string hint)
    : Error(kind, std::vector<std::string>{std::move(what)}, std::move(hint)) {}

Error::Error(ErrorKind kind, std::vector<std::string> faults, std::string hint)
    : std::runtime_error(joined(faults)), kind_(kind), faults_(std::move(faults)), hint_(std::move(hint)) {}

void Faults::raise_if_any(ErrorKind kind, const std::string& hint) const {
  if (!list_.empty()) throw Error(kind, list_, hint);
}

}  // namespace easel
