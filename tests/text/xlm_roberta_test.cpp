// AltDiffusion's tokenizer and encoder against the sentencepiece package and diffusers (scripts/golden/alt_golden.py).
#include "easel/text.h"
#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;
namespace fs = std::filesystem;

fs::path tokenizer_folder() { return data("models/alt/tokenizer"); }

TEST(XlmRobertaTokenizer, IdsEqualSentencepiecesPlusOffsets) {
  const XlmRobertaTokenizer tokenizer = XlmRobertaTokenizer::from_folder(tokenizer_folder());
  std::ifstream lines(data("golden/alt_tokens.jsonl"));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const json row = json::parse(line);
    EXPECT_EQ(tokenizer.encode(row[0].get<std::string>()), row[1].get<std::vector<int64_t>>()) << row[0];
  }
  EXPECT_EQ(count, 1000);
}

TEST(XlmRobertaTokenizer, PadsCutsAndSaysWhatWasCut) {
  const XlmRobertaTokenizer tokenizer = XlmRobertaTokenizer::from_folder(tokenizer_folder());
  const TokenizedPrompt empty = tokenizer.tokenize("");
  EXPECT_EQ(empty.length, 2);
  EXPECT_EQ(empty.ids[0], 0);
  EXPECT_EQ(empty.ids[1], 2);
  EXPECT_EQ(std::count(empty.ids.begin(), empty.ids.end(), 1), 75);

  std::string text;
  for (int i = 0; i < 60; ++i) text += "고양이 ";
  const TokenizedPrompt cut = tokenizer.tokenize(text);
  EXPECT_EQ(cut.ids.size(), 77u);
  EXPECT_EQ(cut.ids.back(), 2);
  EXPECT_EQ(cut.cut_length, static_cast<int64_t>(tokenizer.encode(text).size()) - 75);
  EXPECT_TRUE(text.find(cut.cut.substr(0, 9)) != std::string::npos) << cut.cut;
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("푸른 하늘")), "푸른 하늘");
  EXPECT_THROW(tokenizer.encode("\xff"), Error);
}

std::string why_refused(const std::string& model, const std::string& config) {
  const fs::path folder = fs::path(::testing::TempDir()) / ("easel-xlmr-" + std::to_string(getpid()));
  fs::create_directories(folder);
  if (!model.empty()) std::ofstream(folder / "sentencepiece.bpe.model", std::ios::binary) << model;
  if (!config.empty()) std::ofstream(folder / "tokenizer_config.json") << config;
  std::string why;
  try {
    XlmRobertaTokenizer::from_folder(folder);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFile);
    EXPECT_EQ(error.faults().size(), 1u);
    why = error.what();
  }
  fs::remove_all(folder);
  return why;
}

TEST(XlmRobertaTokenizer, BrokenFilesAreRefused) {
  std::ifstream in(tokenizer_folder() / "sentencepiece.bpe.model", std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  EXPECT_EQ(why_refused(whole, ""), "");
  EXPECT_NE(why_refused("", "").find("no such file"), std::string::npos);
  EXPECT_NE(why_refused("this is no model", "").find("no sentencepiece model"), std::string::npos);
  for (const std::size_t size : {std::size_t{1}, std::size_t{100}, whole.size() / 2, whole.size() - 1})
    EXPECT_NE(why_refused(whole.substr(0, size), ""), "") << "cut at " << size;
  EXPECT_NE(why_refused(whole, R"({"tokenizer_class": "CLIPTokenizer"})").find("XLMRobertaTokenizer"),
            std::string::npos);
  EXPECT_NE(why_refused(whole, R"({"model_max_length": "long"})").find("model_max_length"), std::string::npos);
  EXPECT_NE(why_refused(whole, "{").find("not JSON"), std::string::npos);
}

Weights alt_weights() { return Weights(random_source("text_encoder/", 0, at::kFloat), at::kCPU, at::kFloat); }

XlmRobertaSpec spec_of(const std::string& model) {
  return XlmRobertaSpec::from_json(config(model, "text_encoder"), model);
}

TEST(XlmRobertaEncoder, EqualsTheReference) {
  for (const char* model : {"alt", "alt-pre"}) {
    const XlmRobertaEncoder encoder(alt_weights(), spec_of(model));
    const SourcePtr golden = open_safetensors(data("golden/alt.stages.safetensors"));
    const Tensor ids = golden->load(std::string(model) + ".ids"), want = golden->load(std::string(model) + ".out");
    const Tensor got = encoder(ids);
    expect_stage(model, got, want);
    EXPECT_LE(relative_difference(got, want), 1e-5);
    // Prompts of other lengths beside it change nothing but rounding.
    for (int64_t i = 0; i < ids.size(0); ++i)
      EXPECT_LE(relative_difference(encoder(ids.narrow(0, i, 1)), want.narrow(0, i, 1)), 1e-5) << i;
  }
}

// The random weights with one tensor set to zero.
class WithoutOne : public WeightSource {
 public:
  explicit WithoutOne(std::string name) : name_(std::move(name)) {}
  std::vector<std::string> names() const override { return {}; }
  std::optional<TensorInfo> info(const std::string&) const override { return std::nullopt; }
  Tensor load(const std::string&) const override { return {}; }
  Tensor load(const std::string& name, at::IntArrayRef shape) const override {
    static std::map<std::string, Tensor> drawn;  // once: dozens of networks are built from the same numbers
    Tensor& tensor = drawn[name + to_string(shape)];
    if (!tensor.defined()) tensor = random_weight("text_encoder/" + name, shape, 0);
    return name == name_ ? at::zeros(shape) : tensor;
  }
  std::string describe() const override { return "the tiny model"; }

 private:
  std::string name_;
};

TEST(XlmRobertaEncoder, EveryTensorMatters) {
  for (const char* model : {"alt", "alt-pre"}) {
    const XlmRobertaSpec spec = spec_of(model);
    const SourcePtr golden = open_safetensors(data("golden/alt.stages.safetensors"));
    const Tensor ids = golden->load(std::string(model) + ".ids"), want = golden->load(std::string(model) + ".out");
    const Weights all = alt_weights();
    XlmRobertaEncoder{all, spec};
    for (const auto& [name, shape] : all.binding().asked) {
      // A key's bias moves all scores of a row alike, which softmax takes out; m18 leaves the last layer unused.
      const bool unused = spec.has_pre_transformation &&
                          (name.find("layer.2.") != std::string::npos || name.starts_with("transformation."));
      if (unused || name.ends_with("key.bias")) continue;
      const Weights without(std::make_shared<WithoutOne>(name), at::kCPU, at::kFloat);
      EXPECT_GT(relative_difference(XlmRobertaEncoder(without, spec)(ids), want), 5 * kStageTolerance) << name;
    }
  }
}

// 389 tensors of XLM-R large (transformers' XLMRobertaModel without its pooler) and the projection.
TEST(XlmRobertaEncoder, FullSizeKeysAndShapes) {
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  XlmRobertaEncoder{shapes, XlmRobertaSpec{}};
  const json want = read(data("golden/keys.alt.json"));
  EXPECT_EQ(want.size(), 391u);
  EXPECT_EQ(json(shapes.binding().asked), want);
}

TEST(XlmRobertaSpec, RefusesByName) {
  for (const auto& [field, value] :
       std::vector<std::pair<std::string, json>>{{"hidden_act", "relu"},
                                                 {"position_embedding_type", "relative_key"},
                                                 {"num_attention_heads", 5},
                                                 {"is_decoder", true}}) {
    json file = config("alt", "text_encoder");
    file[field] = value;
    try {
      XlmRobertaSpec::from_json(file, "config.json");
      ADD_FAILURE() << field;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace easel
