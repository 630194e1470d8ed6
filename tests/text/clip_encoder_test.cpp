#include "support/faults.h"
#include "text/encoders.h"

namespace easel {
namespace {

using namespace testing;

constexpr int kPrompts = 5, kFamilyPrompts = 3;
constexpr int64_t kEnd = 49407;

ClipTextSpec spec_of(const std::string& model) { return ClipTextSpec::from_json(config(model, "text_encoder"), model); }

TEST(ClipTextEncoder, EqualsTheReference) {
  for (const std::string& model : tiny_models()) {
    const ClipTextEncoder encoder(weights("text_encoder"), spec_of(model));
    for (int i = 0; i < kPrompts; ++i) {
      const auto load = [&](const char* what) { return stages(model)->load("text." + std::to_string(i) + "." + what); };
      const std::string what = model + " prompt " + std::to_string(i);
      const auto states = [&](int64_t skip) { return encoder(load("ids"), skip, StateNorm::kFinal, kEnd).states; };
      expect_stage(what, states(1), load("last"));
      expect_stage(what + " clip skip 2", states(2), load("skip2"));
    }
  }
}

// Stable Diffusion 2.x's and both of XL's: the layer before the last, as it is; the pooled text.
TEST(ClipTextEncoder, FamiliesEqualTheReference) {
  const SourcePtr golden = open_safetensors(data("golden/families.text.safetensors"));
  for (const auto& [model, part] :
       {std::pair{"sd2", "text_encoder"}, {"sdxl", "text_encoder"}, {"sdxl", "text_encoder_2"}}) {
    const ClipTextEncoder encoder = family_encoder(model, part);
    const bool projected = std::string(part) == "text_encoder_2";
    for (int i = 0; i < kFamilyPrompts; ++i) {
      const std::string name = std::string(model) + "." + part + "." + std::to_string(i) + ".";
      const Tensor ids = golden->load(name + "ids");
      const EncodedText text = encoder(ids, 2, StateNorm::kNone, kEnd);
      expect_stage(name + "states", text.states, golden->load(name + "states"));
      ASSERT_EQ(text.pooled.defined(), projected);
      if (projected) expect_stage(name + "pooled", text.pooled, golden->load(name + "pooled"));
    }
  }
}

TEST(ClipTextEncoder, PooledTextIsOfTheFirstEndTokenWhateverTheLayer) {
  const ClipTextEncoder encoder = family_encoder("sdxl", "text_encoder_2");
  Tensor ids = at::full({2, 77}, kEnd, at::kLong);
  ids.select(1, 0).fill_(49406);
  ids.narrow(1, 1, 5).fill_(320);
  Tensor other = ids.clone();
  other.narrow(1, 7, 70).fill_(0);  // behind the first end token
  const EncodedText last = encoder(ids, 1, StateNorm::kNone, kEnd), first = encoder(other, 4, StateNorm::kNone, kEnd);
  EXPECT_LE(relative_difference(first.pooled, last.pooled), 1e-5);
  EXPECT_GT(relative_difference(first.states, last.states), 0.1);
  EXPECT_GT(relative_difference(encoder(ids, 1, StateNorm::kNone, 320).pooled, last.pooled), 0.1);
}

TEST(ClipTextEncoder, ClipSkipBeyondTheLayersIsRefused) {
  const ClipTextEncoder encoder(weights("text_encoder"), spec_of("sd1-odd"));
  const Tensor ids = at::full({1, 77}, kEnd, at::kLong);
  EXPECT_NO_THROW(encoder(ids, 2, StateNorm::kFinal, kEnd));
  for (const int64_t skip : {0, 3, -1}) EXPECT_THROW(encoder(ids, skip, StateNorm::kFinal, kEnd), Error) << skip;
}

// golden/keys.clip.json: one layer stands for all.
std::map<std::string, Shape> expanded(const json& keys) {
  std::map<std::string, Shape> all;
  for (const auto& [name, shape] : keys.at("rest").items()) all[name] = shape.get<Shape>();
  for (int64_t i = 0; i < keys.at("layers").get<int64_t>(); ++i) {
    for (const auto& [name, shape] : keys.at("layer").items())
      all["text_model.encoder.layers." + std::to_string(i) + "." + name] = shape.get<Shape>();
  }
  return all;
}

TEST(ClipTextEncoder, FullSizeKeysAndShapes) {
  const std::map<std::string, std::size_t> counts = {{"sd15/text_encoder", 196},
                                                     {"sd2/text_encoder", 372},
                                                     {"sdxl/text_encoder", 196},
                                                     {"sdxl/text_encoder_2", 517},
                                                     {"sdxl-refiner/text_encoder_2", 517}};
  const json golden = read(data("golden/keys.clip.json"));
  EXPECT_EQ(golden.size(), counts.size());
  for (const auto& [name, count] : counts) {
    const auto file = std::filesystem::path(EASEL_SOURCE_DIR) / "models/specs" / (name + ".json");
    const Weights shapes(nullptr, at::kMeta, at::kFloat);
    ClipTextEncoder(shapes, ClipTextSpec::from_json(read(file), name));
    std::map<std::string, Shape> got;
    for (const auto& [ours, shape] : shapes.binding().asked) got[published_key("text_encoder", ours)] = shape;
    EXPECT_EQ(got, expanded(golden.at(name))) << name;
    EXPECT_EQ(got.size(), count) << name;
  }
}

TEST(ClipTextSpec, RefusesByName) {
  for (const auto& [field, value] : std::vector<std::pair<std::string, json>>{{"hidden_act", "relu"},
                                                                              {"hidden_size", "768"},
                                                                              {"num_attention_heads", 5},
                                                                              {"num_hidden_layers", 0},
                                                                              {"layer_norm_eps", nullptr},
                                                                              {"vocab_size", 1e12}}) {
    if (value.is_null()) {  // absent and null are the same: the class's default
      json file = config("sd1", "text_encoder");
      file[field] = value;
      EXPECT_NO_THROW(ClipTextSpec::from_json(file, "config.json"));
      continue;
    }
    expect_field_refused(config("sd1", "text_encoder"), field, value, {"config.json: " + field},
                         [](const json& file) { ClipTextSpec::from_json(file, "config.json"); });
  }
}

}  // namespace
}  // namespace easel
