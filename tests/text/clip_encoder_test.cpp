#include "easel/text.h"
#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;

constexpr int kPrompts = 5;

ClipTextSpec spec_of(const std::string& model) { return ClipTextSpec::from_json(config(model, "text_encoder"), model); }

TEST(ClipTextEncoder, EqualsTheReference) {
  for (const std::string& model : tiny_models()) {
    const ClipTextEncoder encoder(weights("text_encoder"), spec_of(model));
    for (int i = 0; i < kPrompts; ++i) {
      const auto load = [&](const char* what) { return stages(model)->load("text." + std::to_string(i) + "." + what); };
      const std::string what = model + " prompt " + std::to_string(i);
      expect_stage(what, encoder(load("ids"), 1), load("last"));
      expect_stage(what + " clip skip 2", encoder(load("ids"), 2), load("skip2"));
    }
  }
}

TEST(ClipTextEncoder, ClipSkipBeyondTheLayersIsRefused) {
  const ClipTextEncoder encoder(weights("text_encoder"), spec_of("sd1-odd"));
  const Tensor ids = at::full({1, 77}, 49407, at::kLong);
  EXPECT_NO_THROW(encoder(ids, 2));
  for (const int64_t skip : {0, 3, -1}) EXPECT_THROW(encoder(ids, skip), Error) << skip;
}

TEST(ClipTextEncoder, FullSizeKeysAndShapes) {
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  ClipTextEncoder(shapes / "text_model",
                  ClipTextSpec::from_json(
                      read(std::filesystem::path(EASEL_SOURCE_DIR) / "models/specs/sd15/text_encoder.json"), "sd15"));
  const json want = read(data("golden/keys.sd15.json")).at("text_encoder");
  EXPECT_EQ(want.size(), 196u);
  EXPECT_EQ(json(shapes.binding().asked), want);
}

TEST(ClipTextSpec, RefusesByName) {
  for (const auto& [field, value] : std::vector<std::pair<std::string, json>>{{"hidden_act", "relu"},
                                                                              {"hidden_size", "768"},
                                                                              {"num_attention_heads", 5},
                                                                              {"num_hidden_layers", 0},
                                                                              {"layer_norm_eps", nullptr},
                                                                              {"vocab_size", 1e12}}) {
    json file = config("sd1", "text_encoder");
    file[field] = value;
    if (value.is_null()) {  // absent and null are the same: the class's default
      EXPECT_NO_THROW(ClipTextSpec::from_json(file, "config.json"));
      continue;
    }
    try {
      ClipTextSpec::from_json(file, "config.json");
      ADD_FAILURE() << field << " " << value << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kFile);
      EXPECT_NE(std::string(error.what()).find("config.json: " + field), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace easel
