#include "weights/safetensors_header.h"

#include <algorithm>

#include "easel/core.h"

namespace easel {

namespace {

constexpr const char* kMetadata = "__metadata__";
constexpr std::size_t kMaxRank = 64;  // ATen's own limit

// A fault of one tensor, or of the header when `name` is null.
struct Where {
  const std::string& file;
  [[noreturn]] void fail(const std::string* name, const std::string& fault) const {
    throw Error(ErrorKind::kFile, file + ": " + (name ? "tensor " + shown_name(*name) : "header") + ": " + fault,
                kDamagedFile);
  }
};

// Reads {name: {dtype, shape, data_offsets}, "__metadata__": {string: string}} as it is parsed. Nothing else is
// accepted, so nesting ends at the third level whatever the file says; and a name that comes twice is seen, which a
// json object would hide.
class HeaderReader : public json::json_sax_t {
 public:
  HeaderReader(Where where, SafetensorsHeader& header)
      : where_(where), tensors_(header.tensors), metadata_(header.metadata) {}

  bool key(std::string& word) override {
    if (state_ == State::kTensors) {
      name_ = std::move(word);
    } else if (state_ == State::kFields || state_ == State::kMetadata) {
      field_ = std::move(word);
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (state_ == State::kStart) return enter(State::kTensors);
    if (state_ != State::kTensors) unexpected("an object");
    if (name_ == kMetadata) return begin_metadata();
    tensor_ = {};
    has_shape_ = has_offsets_ = false;
    return enter(State::kFields);
  }

  bool end_object() override {
    if (state_ == State::kTensors) return enter(State::kEnd);
    if (state_ == State::kFields) finish_tensor();
    return enter(State::kTensors);
  }

  bool start_array(std::size_t) override {
    if (state_ != State::kFields) unexpected("an array");
    if (field_ == "shape") return begin_list(State::kShape, has_shape_);
    if (field_ == "data_offsets") return begin_list(State::kOffsets, has_offsets_);
    unexpected("an array");
  }

  bool end_array() override {
    if (state_ == State::kShape) {
      tensor_.shape.assign(list_.begin(), list_.end());
    } else {
      if (list_.size() != 2) fail("data_offsets: expected 2 numbers, got " + std::to_string(list_.size()));
      tensor_.begin = list_[0], tensor_.end = list_[1];
    }
    return enter(State::kFields);
  }

  bool string(std::string& value) override {
    if (state_ == State::kMetadata) {
      metadata_.emplace(field_, std::move(value));
      return true;
    }
    if (state_ != State::kFields || field_ != "dtype") unexpected("a string");
    if (tensor_.dtype) fail("dtype is given twice");
    tensor_.dtype = find_stored_dtype(value);
    if (!tensor_.dtype) fail("unknown dtype " + shown_name(value) + "; known: " + stored_dtype_names());
    return true;
  }

  bool number_unsigned(json::number_unsigned_t value) override {
    if (state_ != State::kShape && state_ != State::kOffsets) unexpected("a number");
    if (value > static_cast<json::number_unsigned_t>(std::numeric_limits<int64_t>::max()))
      fail(field_ + ": " + std::to_string(value) + " is beyond any file");
    if (list_.size() == kMaxRank) fail(field_ + ": more than " + std::to_string(kMaxRank) + " numbers");
    list_.push_back(value);
    return true;
  }

  bool number_integer(json::number_integer_t value) override { unexpected(std::to_string(value)); }
  bool number_float(json::number_float_t, const std::string& text) override { unexpected(shown_name(text)); }
  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool binary(json::binary_t&) override { unexpected("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    // The library's own message repeats the file's bytes.
    where_.fail(nullptr, "not JSON at byte " + std::to_string(position));
  }

 private:
  enum class State { kStart, kTensors, kMetadata, kFields, kShape, kOffsets, kEnd };

  bool enter(State state) {
    state_ = state;
    return true;
  }

  bool begin_metadata() {
    if (has_metadata_) where_.fail(nullptr, "__metadata__ is given twice");
    has_metadata_ = true;
    return enter(State::kMetadata);
  }

  bool begin_list(State state, bool& seen) {
    if (seen) fail(field_ + " is given twice");
    seen = true;
    list_.clear();
    return enter(state);
  }

  void finish_tensor() {
    if (!tensor_.dtype) fail("dtype is missing");
    if (!has_shape_) fail("shape is missing");
    if (!has_offsets_) fail("data_offsets are missing");
    if (!tensors_.emplace(name_, std::move(tensor_)).second) fail("the name is given twice");
  }

  [[noreturn]] void fail(const std::string& fault) const { where_.fail(&name_, fault); }

  [[noreturn]] void unexpected(const std::string& got) const {
    switch (state_) {
      case State::kStart:
      case State::kEnd:
        where_.fail(nullptr, "expected a JSON object, got " + got);
      case State::kMetadata:
        where_.fail(nullptr, "__metadata__: expected strings only, got " + got);
      case State::kTensors:
        if (name_ == kMetadata) where_.fail(nullptr, "__metadata__: expected an object, got " + got);
        fail("expected an object of dtype, shape and data_offsets, got " + got);
      case State::kShape:
      case State::kOffsets:
        fail(field_ + ": expected whole numbers, got " + got);
      case State::kFields:
        break;
    }
    const bool known = field_ == "dtype" || field_ == "shape" || field_ == "data_offsets";
    if (!known) fail("unknown field " + shown_name(field_));
    fail(field_ + ": expected " + (field_ == "dtype" ? "a string" : "an array of whole numbers") + ", got " + got);
  }

  Where where_;
  StoredTensors& tensors_;
  std::map<std::string, std::string>& metadata_;
  State state_ = State::kStart;
  std::string name_, field_;
  StoredTensor tensor_;
  std::vector<uint64_t> list_;
  bool has_shape_ = false, has_offsets_ = false, has_metadata_ = false;
};

// Bytes of the tensor; nullopt when that is no 64-bit number. Empty dimensions count as 1 on the way, so that ATen's
// strides do not overflow either.
std::optional<uint64_t> byte_size(const StoredTensor& tensor) {
  int64_t bytes = tensor.dtype->width;
  bool empty = false;
  for (const int64_t size : tensor.shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes)) return std::nullopt;
  }
  return empty ? 0 : static_cast<uint64_t>(bytes);
}

std::string range_text(const StoredTensor& tensor) {
  return to_string({static_cast<int64_t>(tensor.begin), static_cast<int64_t>(tensor.end)});
}

void check_range(const Where& where, const std::string& name, const StoredTensor& tensor, uint64_t data_size) {
  if (tensor.begin > tensor.end) where.fail(&name, "data_offsets " + range_text(tensor) + " run backwards");
  if (tensor.end > data_size) {
    where.fail(&name, "data_offsets " + range_text(tensor) + " end beyond the file's " + std::to_string(data_size) +
                          " bytes of data");
  }
  const std::optional<uint64_t> bytes = byte_size(tensor);
  const auto shape = [&] { return tensor.dtype->name + (" " + to_string(tensor.shape)); };
  if (!bytes) where.fail(&name, "shape: " + shape() + " is beyond any file");
  if (*bytes != tensor.end - tensor.begin) {
    where.fail(&name, shape() + " takes " + std::to_string(*bytes) + " bytes, data_offsets " + range_text(tensor) +
                          " hold " + std::to_string(tensor.end - tensor.begin));
  }
}

// The format allows no byte that belongs to no tensor, or to two: such a file could carry another file inside.
void check_cover(const Where& where, const StoredTensors& tensors, uint64_t data_size) {
  std::vector<const StoredTensors::value_type*> by_place;
  by_place.reserve(tensors.size());
  for (const auto& tensor : tensors) by_place.push_back(&tensor);
  std::sort(by_place.begin(), by_place.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t covered = 0;
  const std::string* before = nullptr;
  for (const auto* tensor : by_place) {
    const auto& [name, range] = *tensor;
    if (range.begin < covered) where.fail(&name, "its data overlaps that of tensor " + shown_name(*before));
    if (range.begin > covered)
      where.fail(&name, std::to_string(range.begin - covered) + " bytes before its data belong to no tensor");
    covered = range.end;
    before = &name;
  }
  if (covered != data_size)
    where.fail(nullptr, std::to_string(data_size - covered) + " bytes at the file's end belong to no tensor");
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view header, uint64_t data_size, const std::string& file) {
  const Where where{file};
  // The parser takes a NUL for the end of its input and would not see what follows.
  if (const std::size_t nul = header.find('\0'); nul != std::string_view::npos)
    where.fail(nullptr, "not JSON at byte " + std::to_string(nul + 1));
  SafetensorsHeader found;
  HeaderReader reader(where, found);
  json::sax_parse(header.begin(), header.end(), &reader);
  for (const auto& [name, tensor] : found.tensors) check_range(where, name, tensor, data_size);
  check_cover(where, found.tensors, data_size);
  return found;
}

}  // namespace easel
