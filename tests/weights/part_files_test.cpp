// The forms in which a part of a diffusers folder is published.
#include "weights/files.h"

namespace easel {
namespace {

using namespace testing;

constexpr const char* kStem = "diffusion_pytorch_model";

Named one(float value) { return {{"a", at::full({2}, value)}, {"b", at::full({3}, value)}}; }

// Two shards and their index, whose data tell them from other variants.
void write_shards(const Folder& folder, const std::string& variant, float value) {
  const auto shard = [&](int number) {
    return kStem + variant + "-0000" + std::to_string(number) + "-of-00002.safetensors";
  };
  write_safetensors(folder / shard(1), {{"a", at::full({2}, value)}});
  write_safetensors(folder / shard(2), {{"b", at::full({3}, value)}});
  folder.write(std::string(kStem) + ".safetensors.index" + variant + ".json",
               json{{"metadata", {{"total_size", 20}}}, {"weight_map", {{"a", shard(1)}, {"b", shard(2)}}}}.dump());
}

float value_of(const Folder& folder, bool prefer_half) {
  const SourcePtr source = open_part(folder.path(), kStem, prefer_half);
  EXPECT_EQ(source->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(source->load("b").sum().item<float>(), 3 * source->load("a")[0].item<float>());
  return source->load("a")[0].item<float>();
}

TEST(OpenPart, EveryFormAndWhichIsPreferred) {
  const std::vector<std::function<void(const Folder&)>> full = {
      [](const Folder& f) { write_safetensors(f / (kStem + std::string(".safetensors")), one(32)); },
      [](const Folder& f) { write_shards(f, "", 32); }};
  const std::vector<std::function<void(const Folder&)>> half = {
      [](const Folder& f) { write_safetensors(f / (kStem + std::string(".fp16.safetensors")), one(16)); },
      [](const Folder& f) { write_shards(f, ".fp16", 16); }};
  for (const auto& write_full : full) {
    for (const auto& write_half : half) {
      const Folder both;
      write_full(both), write_half(both);
      EXPECT_EQ(value_of(both, false), 32);
      EXPECT_EQ(value_of(both, true), 16);
    }
    const Folder alone;
    write_full(alone);
    EXPECT_EQ(value_of(alone, true), 32);
  }
  for (const auto& write_half : half) {
    const Folder alone;
    write_half(alone);
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(value_of(alone, false), 16);
    EXPECT_EQ(value_of(alone, false), 16);
    const std::string said = ::testing::internal::GetCapturedStderr();
    expect_has(said, "used, for there is no full-precision variant");
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << "said once: " << said;
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(value_of(alone, true), 16);
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  }
}

TEST(OpenPart, ExponentialAverageIsPassedOver) {
  const Folder folder;
  write_safetensors(folder / "diffusion_pytorch_model.non_ema.safetensors", one(1));
  write_safetensors(folder / "diffusion_pytorch_model.fp16.non_ema.safetensors", one(1));
  expect_has(message([&] { open_part(folder.path(), kStem, false); }), "there is diffusion_pytorch_model.fp16.non_ema");
  write_safetensors(folder / "diffusion_pytorch_model.safetensors", one(32));
  EXPECT_EQ(value_of(folder, false), 32);
}

TEST(OpenPart, SaysWhatWasLookedForAndWhatIsThere) {
  const Folder folder;
  folder.write("config.json", "{}");
  const std::string text = message([&] { open_part(folder.path(), "model", false); });
  expect_has(text, folder.path().string() + ": no weights: looked for model.safetensors, ");
  for (const char* name :
       {"model.safetensors.index.json", "model.fp16.safetensors", "model.safetensors.index.fp16.json",
        "pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.fp16.bin"})
    expect_has(text, name);
  expect_has(text, "; there is config.json");
  expect_has(message([&] { open_part(folder / "none", "model", false); }), "none: No such file or directory");
}

// ---- shards ---------------------------------------------------------------------------------------------------------

std::string index_message(const Folder& folder, const std::string& index) {
  folder.write("model.safetensors.index.json", index);
  return message([&] { open_part(folder.path(), "model", false); });
}

std::string weight_map(const json& map) { return json{{"weight_map", map}}.dump(); }

TEST(Sharded, FilesNamesAndPages) {
  const Folder folder;
  write_shards(folder, "", 1);
  const SourcePtr source = open_part(folder.path(), kStem, false);
  EXPECT_EQ(source->files(), (std::vector<fs::path>{folder / "diffusion_pytorch_model-00001-of-00002.safetensors",
                                                    folder / "diffusion_pytorch_model-00002-of-00002.safetensors"}));
  EXPECT_EQ(source->describe(), (folder / "diffusion_pytorch_model.safetensors.index.json").string());
  EXPECT_EQ(source->info("b")->shape, Shape{3});
  EXPECT_FALSE(source->info("c"));
  source->drop_pages("b");
}

TEST(Sharded, ATensorTheIndexDoesNotListIsSeen) {
  const Folder folder;
  write_safetensors(folder / "1.safetensors", one(1));
  folder.write("model.safetensors.index.json", weight_map({{"a", "1.safetensors"}}));
  const Weights w(open_part(folder.path(), "model", false), at::kCPU, at::kFloat);
  w.get("a", {2});
  expect_has(message([&] { w.finish("text_encoder", none); }), "unexpected tensor b");
}

TEST(Sharded, BadIndexes) {
  const Folder folder;
  write_safetensors(folder / "1.safetensors", one(1));
  write_safetensors(folder / "2.safetensors", {{"b", at::ones(3)}, {"c", at::ones(3)}});
  EXPECT_TRUE(
      index_message(folder, "{").starts_with((folder / "model.safetensors.index.json").string() + ": not JSON"));
  for (const char* wrong : {"[]", "null", "{}", R"({"weight_map":[]})", R"({"weight_map":"a"})"})
    expect_has(index_message(folder, wrong), "expected an object \"weight_map\"");
  expect_has(index_message(folder, weight_map({{"a", 1}})), "weight_map: a: expected a file name, got number");
  expect_has(index_message(folder, weight_map({{"x", "1.safetensors"}, {"y", "1.safetensors"}})),
             "tensor x is not in 1.safetensors\n" + (folder / "model.safetensors.index.json").string() +
                 ": tensor y is not in 1.safetensors");
  expect_has(index_message(folder, weight_map({{"a", "1.safetensors"}, {"c", "2.safetensors"}})),
             "tensor b is in two shards, one of them 2.safetensors");
  expect_has(index_message(folder, weight_map({{"a", "3.safetensors"}})), "3.safetensors: cannot be opened: No such");
}

TEST(Sharded, ShardNamesLeadNowhereElse) {
  const Folder folder, elsewhere;
  write_safetensors(elsewhere / "1.safetensors", one(1));
  for (const std::string& name :
       {"../" + elsewhere.path().filename().string() + "/1.safetensors", (elsewhere / "1.safetensors").string(),
        std::string("a\\1.safetensors"), std::string("./1.safetensors"), std::string("1.pt"), std::string(""),
        std::string(".."), std::string("1\0.safetensors", 14)})
    expect_has(index_message(folder, weight_map({{"a", name}})),
               "expected the plain name of a .safetensors or .bin file, got ");
  // A cache of downloads has links in place of files.
  fs::create_symlink(elsewhere / "1.safetensors", folder / "1.safetensors");
  folder.write("model.safetensors.index.json", weight_map({{"a", "1.safetensors"}, {"b", "1.safetensors"}}));
  EXPECT_EQ(open_part(folder.path(), "model", false)->names().size(), 2u);
}

TEST(Sharded, ManyFaultsAreCounted) {
  const Folder folder;
  write_safetensors(folder / "1.safetensors", one(1));
  json map;
  for (int i = 0; i < 50; ++i) map["x" + std::to_string(i)] = "1.safetensors";
  const std::string text = index_message(folder, weight_map(map));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 21);
  expect_has(text, "and 30 more misplaced tensors");
}

}  // namespace
}  // namespace easel
