#include <utf8proc.h>

#include "easel/batch.h"

namespace easel {

namespace {

// Letters, marks and digits: the categories L*, M* and N*.
bool belongs_in_names(utf8proc_int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO;
}

}  // namespace

std::string slug(std::string_view prompt, int64_t limit) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(prompt.data());
  const auto size = static_cast<utf8proc_ssize_t>(prompt.size());
  std::string name;
  std::size_t whole = 0;  // the part of `name` that ends with a whole character (grapheme cluster)
  int64_t count = 0;
  bool gap = false;
  utf8proc_int32_t before = 0, state = 0;
  for (utf8proc_ssize_t at = 0; at < size;) {
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(bytes + at, size - at, &c);
    TORCH_CHECK(length > 0, "a prompt that is not UTF-8 came as far as its file name");
    if (at > 0 && utf8proc_grapheme_break_stateful(before, c, &state)) whole = name.size();
    if (belongs_in_names(c)) {
      const bool separated = gap && !name.empty();
      if (count + 1 + separated > limit) return whole > 0 ? name.substr(0, whole) : name;
      if (separated) name += '-';
      name += prompt.substr(at, length);
      count += 1 + separated;
    }
    gap = !belongs_in_names(c);
    before = c;
    at += length;
  }
  return name.empty() ? "untitled" : name;
}

}  // namespace easel
