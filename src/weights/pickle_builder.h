#pragma once

#include "weights/pickle.h"

namespace easel::pickle {

// What a pickle's calls would make, built here from their arguments.
class Builder {
 public:
  Builder(Pickle& pickle, const Place& place) : pickle_(pickle), place_(place) {}

  Ref add(Value value);
  Ref call(Ref callee, Ref arguments);    // REDUCE
  Ref instance(Ref type, Ref arguments);  // NEWOBJ
  void set_state(Ref object, Ref state);  // BUILD
  Ref storage(Ref id);                    // BINPERSID
  const Global& global(std::string_view module, std::string_view name) const;

  // The value of a kind; fails with `what` and the kinds expected and found.
  template <class Kind>
  Kind& get(Ref ref, const std::string& what) {
    if (Kind* value = std::get_if<Kind>(&pickle_.values[ref])) return *value;
    fail_kind(what, Kind{}, ref);
  }

 private:
  using Arguments = std::vector<Ref>;

  [[noreturn]] void fail_kind(const std::string& what, const Value& expected, Ref got) const;
  void expect_count(const Global& global, const Arguments& arguments, std::size_t least, std::size_t most) const;
  void charge(std::size_t count);
  int64_t size(Ref ref, const std::string& what);
  Shape sizes(Ref ref, const std::string& what);
  Ref ordered_dict(const Arguments& arguments);
  Ref encoded(const Arguments& arguments);
  Ref scalar(const Arguments& arguments);
  Ref tensor(const Global& global, const Arguments& arguments);
  void check_view(const TensorView& view, uint64_t storage_bytes) const;

  Pickle& pickle_;
  const Place& place_;
  std::size_t charged_ = 0;
};

}  // namespace easel::pickle
