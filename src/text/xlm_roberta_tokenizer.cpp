#include <sentencepiece_processor.h>

#include <algorithm>

#include "easel/text.h"
#include "text/tokenizer_reading.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

// fairseq put <s>, <pad>, </s>, <unk> before the pieces, of which the first three (<unk>, <s>, </s>) are its own.
constexpr int64_t kBos = 0, kPad = 1, kEos = 2, kUnknown = 3;
constexpr int64_t kOffset = 1;
constexpr const char* kModel = "sentencepiece.bpe.model";

int64_t read_max_length(const fs::path& folder) {
  constexpr int64_t kUsual = 77, kNoLimit = int64_t{1} << 30;
  const fs::path file = folder / "tokenizer_config.json";
  if (!is_there(file)) return kUsual;
  const json config = read_json_object(file);
  const std::string name = config.value("tokenizer_class", json("XLMRobertaTokenizer")).dump();
  if (name != "\"XLMRobertaTokenizer\"" && name != "\"XLMRobertaTokenizerFast\"")
    fail(file, "tokenizer_class", "expected \"XLMRobertaTokenizer\", got " + name);
  const auto length = config.find("model_max_length");
  if (length == config.end() || length->is_null()) return kUsual;
  if (!length->is_number() || length->get<double>() < 3)
    fail(file, "model_max_length", "expected a whole number from 3, got " + value_or_type(*length));
  return length->get<double>() >= static_cast<double>(kNoLimit) ? kUsual : length->get<int64_t>();
}

}  // namespace

struct XlmRobertaTokenizer::Impl {
  sentencepiece::SentencePieceProcessor pieces;
  int64_t max_length = 77;
};

XlmRobertaTokenizer::XlmRobertaTokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
XlmRobertaTokenizer::~XlmRobertaTokenizer() = default;
XlmRobertaTokenizer::XlmRobertaTokenizer(XlmRobertaTokenizer&&) noexcept = default;
XlmRobertaTokenizer& XlmRobertaTokenizer::operator=(XlmRobertaTokenizer&&) noexcept = default;

XlmRobertaTokenizer XlmRobertaTokenizer::from_folder(const fs::path& folder) {
  auto impl = std::make_unique<Impl>();
  impl->max_length = read_max_length(folder);
  const fs::path file = folder / kModel;
  if (!is_there(file)) fail(file, "", "there is no such file, so prompts cannot be tokenized");
  const std::string bytes = read_text(file);
  if (bytes.empty()) fail(file, "", "it is empty");
  const sentencepiece::util::Status status = impl->pieces.LoadFromSerializedProto(bytes);
  if (!status.ok()) fail(file, "", "no sentencepiece model, or a damaged one: " + std::string(status.message()));
  // Piece 0 must be <unk>: the ids of the checkpoint's embedding follow from it.
  if (impl->pieces.unk_id() != 0)
    fail(file, "<unk>", "expected to be piece 0, got " + std::to_string(impl->pieces.unk_id()));
  return XlmRobertaTokenizer(std::move(impl));
}

std::vector<int64_t> XlmRobertaTokenizer::encode(std::string_view text) const {
  if (const auto at = invalid_utf8_at(text))
    throw Error(ErrorKind::kUsage, "the prompt is not valid UTF-8 at byte " + std::to_string(*at));
  std::vector<int> pieces;
  const auto status = impl_->pieces.Encode({text.data(), text.size()}, &pieces);
  TORCH_CHECK(status.ok(), "sentencepiece: ", std::string(status.message()));
  std::vector<int64_t> ids;
  for (const int piece : pieces) ids.push_back(piece == 0 ? kUnknown : piece + kOffset);
  return ids;
}

TokenizedPrompt XlmRobertaTokenizer::tokenize(std::string_view prompt) const {
  const std::vector<int64_t> text = encode(prompt);
  const auto room = static_cast<std::size_t>(max_length() - 2);
  const std::size_t kept = std::min(text.size(), room);
  TokenizedPrompt out;
  out.ids.push_back(kBos);
  out.ids.insert(out.ids.end(), text.begin(), text.begin() + static_cast<std::ptrdiff_t>(kept));
  out.ids.push_back(kEos);
  out.length = static_cast<int64_t>(out.ids.size());
  out.ids.resize(static_cast<std::size_t>(max_length()), kPad);
  const std::vector<int64_t> rest(text.begin() + static_cast<std::ptrdiff_t>(kept), text.end());
  out.cut_length = static_cast<int64_t>(rest.size());
  out.cut = decode(rest);
  return out;
}

std::string XlmRobertaTokenizer::decode(const std::vector<int64_t>& ids) const {
  std::vector<int> pieces;
  for (const int64_t id : ids) {
    const int64_t piece = id - kOffset;
    if (id == kUnknown) {
      pieces.push_back(0);
    } else if (piece > 2 && piece < impl_->pieces.GetPieceSize()) {
      pieces.push_back(static_cast<int>(piece));
    }
  }
  std::string text;
  const auto status = impl_->pieces.Decode(pieces, &text);
  TORCH_CHECK(status.ok(), "sentencepiece: ", std::string(status.message()));
  return text;
}

int64_t XlmRobertaTokenizer::max_length() const { return impl_->max_length; }
int64_t XlmRobertaTokenizer::pad_id() const { return kPad; }
int64_t XlmRobertaTokenizer::vocab_size() const { return impl_->pieces.GetPieceSize() + kOffset + 1; }

ChunkRules XlmRobertaTokenizer::chunk_rules() const {
  const int comma = impl_->pieces.PieceToId(",");
  return {[this](std::string_view text) { return encode(text); },
          max_length(),
          kBos,
          kEos,
          kPad,
          comma > 0 ? comma + kOffset : -1};
}

}  // namespace easel
