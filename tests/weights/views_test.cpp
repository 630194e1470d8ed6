// Sources made of sources, and random ones.
#include "easel/runtime.h"
#include "weights/files.h"

namespace easel {
namespace {

using namespace testing;

SourcePtr file_of(const Folder& folder, const Named& tensors) {
  write_safetensors(folder / "file.safetensors", tensors);
  return open_safetensors(folder / "file.safetensors");
}

const FilePart kPart = {"unet", "x.", Naming::kDiffusers};

TEST(AsDiffusers, OnePartOfAFile) {
  const Folder folder;
  const SourcePtr base = file_of(folder, {{"x.a", at::ones(2)}, {"x.b", at::zeros(3)}, {"b", at::zeros(4)}});
  const SourcePtr view = as_diffusers(base, kPart, {});
  EXPECT_EQ(view->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(view->info("b")->shape, Shape{3});
  EXPECT_EQ(view->load("a").data_ptr(), base->load("x.a").data_ptr());
  EXPECT_EQ(view->load("a", {2}).data_ptr(), base->load("x.a").data_ptr());
  EXPECT_FALSE(view->info("c"));
  EXPECT_FALSE(view->load("c", {1}).defined());
  EXPECT_FALSE(view->info("x.a")) << "their names are not seen";
  EXPECT_FALSE(view->load("x.a", {2}).defined());
  EXPECT_EQ(view->files(), base->files());
  EXPECT_EQ(view->describe(), base->describe());
  EXPECT_EQ(view->metadata(), base->metadata());
  view->drop_pages("a");
}

TEST(AsDiffusers, MessagesCarryBothNames) {
  const Folder folder;
  const SourcePtr base = file_of(folder, {{"x.a", at::ones(2)}, {"x.b", at::ones(2)}});
  const Weights w(as_diffusers(base, kPart, {}), at::kCPU, at::kFloat);
  w.get("a", {5});
  w.get("c", {1});
  const std::string text = message([&] { w.finish("unet", none); });
  expect_has(text, ": missing tensor x.c (c), expected [1]\n");
  expect_has(text, ": tensor x.a (a) is [2], expected [5]\n");
  expect_has(text, ": unexpected tensor x.b (b)\n");
}

TEST(Joined, EveryTensorOnce) {
  const Folder folder;
  const SourcePtr file = file_of(folder, {{"a", at::ones(2)}, {"b", at::zeros(3)}});
  const SourcePtr memory = tensor_source({{"c", at::ones(1)}}, "memory"), both = joined({file, memory});
  EXPECT_EQ(both->names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(both->load("c").item<float>(), 1);
  EXPECT_EQ(both->info("b")->shape, Shape{3});
  EXPECT_FALSE(both->info("d"));
  EXPECT_EQ(both->files(), file->files());
  both->drop_pages("a");
  expect_has(message([&] {
               joined({file, tensor_source({{"a", at::ones(1)}}, "memory")});
             }),
             "tensor a is in " + file->describe() + " and in memory");
  const SourcePtr some = filtered(file, [](const std::string& name) { return name == "b"; });
  EXPECT_EQ(some->names(), std::vector<std::string>{"b"});
  EXPECT_FALSE(some->info("a"));
  EXPECT_EQ(some->metadata(), file->metadata());
}

TEST(WithoutPrefix, PresentAbsentAndOthers) {
  const Folder folder;
  const auto names = [](const SourcePtr& source) { return source->names(); };
  const std::string prefix = "text_model.";
  const SourcePtr with =
      without_prefix(file_of(folder, {{"text_model.a", at::ones(1)}, {"logit_scale", at::ones(1)}}), prefix);
  EXPECT_EQ(names(with), (std::vector<std::string>{"a", "logit_scale"}));
  EXPECT_EQ(with->load("a").item<float>(), 1);
  const SourcePtr without = without_prefix(file_of(folder, {{"a", at::full({1}, 2)}, {"b", at::ones(1)}}), prefix);
  EXPECT_EQ(names(without), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(without->load("a").item<float>(), 2);

  const Weights w(with, at::kCPU, at::kFloat);
  w.get("c", {1});
  const std::string text = message([&] { w.finish("text_encoder", none); });
  expect_has(text, "missing tensor text_model.c (c), expected [1]");
  expect_has(text, "unexpected tensor text_model.a (a)");
  expect_has(text, "unexpected tensor logit_scale\n");
  const Weights bare(without, at::kCPU, at::kFloat);
  bare.get("c", {1});
  expect_has(message([&] { bare.finish("text_encoder", none); }), "missing tensor c, expected [1]");
}

TEST(WithoutPrefix, TwoNamesMustNotBecomeOne) {
  const Folder folder;
  const SourcePtr base = file_of(folder, {{"text_model.a", at::ones(1)}, {"a", at::ones(1)}});
  expect_has(message([&] { without_prefix(base, "text_model."); }), "tensor a is there with and without text_model.");
}

// ---- random numbers -------------------------------------------------------------------------------------------------

struct Drawn {
  std::string key;
  Shape shape;
  uint32_t seed;
  float first, middle, last;  // of the flattened tensor, elements 0, n/2 and n - 1
};

// random_tensor() of scripts/golden/random_weights.py, printed with nine digits.
const std::vector<Drawn>& drawn_in_python() {
  static const std::vector<Drawn> rows = {
      {"unet/conv_in.weight", {8, 4, 3, 3}, 0, 0.0993304178f, 0.0135312267f, 0.028959183f},
      {"unet/conv_in.bias", {8}, 0, 0.998715281f, 0.207654387f, 0.435078263f},
      {"unet/conv_in.weight", {8, 4, 3, 3}, 7, -0.0379320569f, -0.000995258451f, 0.0854859799f},
      {"unet/conv_norm_out.weight", {32}, 0, 1.54410172f, 1.37211394f, 1.28486776f},
      {"text_encoder/text_model.embeddings.token_embedding.weight",
       {49, 8},
       0,
       -0.107998528f,
       -0.345352501f,
       -0.542079568f},
      {"vae/decoder.conv_out.weight", {3, 8, 3, 3}, 4294967295, 0.000145150494f, -0.0645962209f, 0.0990053937f},
      {"unet/mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight",
       {16, 16},
       0,
       -0.00933868159f,
       0.731048226f,
       0.940821826f},
      {"vae/decoder.up_blocks.0.upsamplers.0.conv.weight",
       {4, 4, 3, 3},
       0,
       0.0663291141f,
       -0.103370383f,
       -0.129955888f},
      {"unet/up_blocks.0.upsamplers.0.conv.weight", {4, 4, 3, 3}, 0, 0.114480339f, 0.274717927f, -0.246134564f},
      {"text_encoder/text_model.encoder.layers.0.mlp.fc1.weight", {5, 3}, 0, 0.938934505f, 0.178189173f, -0.406301171f},
      {"unet/x.weight", {3, 2}, 1, 0.104841061f, -0.452070713f, -0.0969952494f},
  };
  return rows;
}

TEST(RandomWeight, EqualsPython) {
  for (const Drawn& row : drawn_in_python()) {
    const Tensor t = random_weight(row.key, row.shape, row.seed);
    EXPECT_EQ(t.sizes().vec(), row.shape);
    const Tensor flat = t.flatten();
    EXPECT_EQ(flat[0].item<float>(), row.first) << row.key << " seed " << row.seed;
    EXPECT_EQ(flat[flat.numel() / 2].item<float>(), row.middle) << row.key;
    EXPECT_EQ(flat[-1].item<float>(), row.last) << row.key;
  }
}

TEST(RandomSource, AnyNameAndShape) {
  const Weights w(random_source("unet/", 3, at::kFloat), at::kCPU, at::kFloat);
  const Tensor t = (w / "mid_block").get("conv.weight", {4, 3, 2, 2});
  EXPECT_TRUE(t.equal(random_weight("unet/mid_block.conv.weight", {4, 3, 2, 2}, 3)));
  EXPECT_FALSE(t.equal(random_weight("unet/mid_block.conv.weight", {4, 3, 2, 2}, 4)));
  EXPECT_FALSE(t.equal(random_weight("vae/mid_block.conv.weight", {4, 3, 2, 2}, 3)));
  EXPECT_FALSE(w.has("mid_block"));
  EXPECT_FALSE(w.maybe("mid_block.conv.bias", {4}).defined());
  EXPECT_NO_THROW(w.finish("unet", none));
}

TEST(RandomSource, StoredHalfAsThePublishedFilesAre) {
  const Weights w(random_source("unet/", 0, at::kHalf), at::kCPU, at::kFloat);
  EXPECT_TRUE(w.get("a.weight", {8, 8}).equal(random_weight("unet/a.weight", {8, 8}, 0).to(at::kHalf).to(at::kFloat)));
}

}  // namespace
}  // namespace easel
