// Pixel-space models: folders of DDPMPipeline and DDIMPipeline, and their pictures against diffusers'.
#include "pipeline/pixel_model.h"

#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

enum class Layout { kUsual, kRoot };  // google/ddpm-* have all files in the folder's root

// A folder of case `row` of pixels.json, below `root`.
fs::path write_pixel_model(const fs::path& root, const json& row, Layout layout) {
  const json config = read(data("golden/unets.json")).at("tiny").at(row.at("unet").get<std::string>());
  const fs::path folder = root / row.at("key").get<std::string>();
  const fs::path unet = layout == Layout::kRoot ? folder : folder / "unet";
  const fs::path scheduler = layout == Layout::kRoot ? folder : folder / "scheduler";
  fs::create_directories(unet);
  fs::create_directories(scheduler);
  std::ofstream(folder / "model_index.json") << json{{"_class_name", row.at("pipeline")}};
  std::ofstream(unet / "config.json") << config;
  std::ofstream(scheduler / "scheduler_config.json") << row.at("scheduler");
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  UNet2D{shapes, UNet2DSpec::from_json(config, "config.json")};
  Tensors tensors;
  for (const auto& [name, shape] : shapes.binding().asked)
    tensors.emplace_back(name, random_weight("unet/" + name, shape, 0));
  write_safetensors(unet / "diffusion_pytorch_model.safetensors", tensors);
  return folder;
}

json pixel_cases() { return read(data("golden/pixels.json")); }

json pixel_case(const std::string& key) {
  for (const json& row : pixel_cases()) {
    if (row.at("key") == key) return row;
  }
  throw std::out_of_range(key);
}

Precision f32() { return resolve_precision("cpu", DtypeChoice::kF32); }

// Through the doors that the program uses.
TEST(PixelModel, IsACheckpointLikeAnyOther) {
  const TinyCheckpoints temporary;
  const json row = pixel_cases().front();
  const fs::path folder = write_pixel_model(temporary.root(), row, Layout::kUsual);
  EXPECT_TRUE(draws_without_prompt(folder));
  Pipeline pipeline(open_checkpoint(folder), f32());
  EXPECT_EQ(pipeline.checkpoint().family->name, "ddpm");
  Request request;
  request.prompt = "";
  request.seed = row.at("seed").get<uint64_t>();
  request.steps = row.at("steps").get<int64_t>();
  if (!row.at("eta").is_null()) request.eta = row.at("eta").get<double>();
  const Request filled = resolve(request, pipeline.checkpoint(), f32());
  const Tensor want =
      open_safetensors(data("golden/pixels.safetensors"))->load(row.at("key").get<std::string>() + ".x");
  EXPECT_LE(relative_difference(pipeline.generate(filled).latent, want), 1e-4);
  EXPECT_EQ(model_hashes(pipeline.checkpoint(), false).model.size(), 64u);
  EXPECT_NE(png_texts(filled, {std::string(64, 'a'), "", ""}, pipeline.checkpoint())[0].text.find("Steps: "),
            std::string::npos);
  request.prompt = "a cat";
  expect_fault(
      {"a prompt has no effect"}, [&] { resolve(request, pipeline.checkpoint(), f32()); }, ErrorKind::kUsage);
  request.vae = "x";
  request.model = folder.string();
  expect_fault(
      {"--vae has no effect"}, [&] { open_models(request); }, ErrorKind::kUsage);
}

TEST(PixelModel, PicturesEqualTheReference) {
  const TinyCheckpoints temporary;
  const SourcePtr golden = open_safetensors(data("golden/pixels.safetensors"));
  Layout layout = Layout::kUsual;
  for (const json& row : pixel_cases()) {
    const std::string key = row.at("key");
    PixelPipeline pipeline(open_pixel_model(write_pixel_model(temporary.root(), row, layout)), f32());
    layout = layout == Layout::kUsual ? Layout::kRoot : Layout::kUsual;
    Request request;
    request.seed = row.at("seed").get<uint64_t>();
    request.steps = row.at("steps").get<int64_t>();
    if (!row.at("eta").is_null()) request.eta = row.at("eta").get<double>();
    int calls = 0;
    const Picture picture =
        pipeline.generate(resolve(request, pipeline.model(), f32()), [&](int done, int) { calls = done; });
    EXPECT_EQ(calls, *request.steps) << key;
    const double difference = relative_difference(picture.latent, golden->load(key + ".x"));
    const Tensor want = golden->load(key).flatten();
    ASSERT_EQ(static_cast<int64_t>(picture.image.pixels.size()), want.numel()) << key;
    int largest = 0;
    for (int64_t i = 0; i < want.numel(); ++i)
      largest = std::max(largest, std::abs(int{picture.image.pixels[static_cast<std::size_t>(i)]} -
                                           want.const_data_ptr<uint8_t>()[i]));
    std::cout << key << ": largest difference " << largest << "/255, before clamping " << difference << "\n";
    EXPECT_LE(largest, 1) << key;
    EXPECT_LE(difference, kStageTolerance) << key;
  }
}

TEST(PixelModel, DefaultsAreThePipelines) {
  const TinyCheckpoints temporary;
  Request request;
  request.seed = 0;
  const auto resolved_case = [&](const char* key) {
    const fs::path folder = write_pixel_model(temporary.root(), pixel_case(key), Layout::kUsual);
    return resolve(request, open_pixel_model(folder), f32());
  };
  const Request ddpm = resolved_case("ddpm-large"), ddim = resolved_case("ddim");
  EXPECT_EQ(ddpm.sampler, "ddpm");
  EXPECT_EQ(ddpm.steps, 1000);
  EXPECT_FALSE(ddpm.eta);
  EXPECT_EQ(ddpm.width, 16);
  EXPECT_EQ(ddpm.height, 8);
  EXPECT_EQ(ddpm.prompt, "");
  EXPECT_EQ(ddim.sampler, "ddim");
  EXPECT_EQ(ddim.steps, 50);
  EXPECT_EQ(ddim.eta, 0.0);
}

TEST(PixelModel, RefusesWhatHasNoEffect) {
  const TinyCheckpoints temporary;
  const PixelModel model =
      open_pixel_model(write_pixel_model(temporary.root(), pixel_case("ddpm-large"), Layout::kRoot));
  const auto refused = [&](const std::vector<std::string>& words, const std::function<void(Request&)>& change) {
    Request request;
    request.seed = 0;
    change(request);
    expect_fault(
        words, [&] { resolve(request, model, f32()); }, ErrorKind::kUsage);
  };
  refused({"a prompt has no effect", "draws without a text"}, [](Request& r) { r.prompt = "a cat"; });
  refused({"--negative-prompt"}, [](Request& r) { r.negative_prompt = ""; });
  refused({"--cfg-scale has no effect"}, [](Request& r) { r.cfg_scale = 7; });
  refused({"--vae has no effect"}, [](Request& r) { r.vae = "x"; });
  refused({"--width 64", "16x8 only"}, [](Request& r) { r.width = 64; });
  refused({"--eta has no effect"}, [](Request& r) { r.eta = 0.5; });
  refused({"steps"}, [](Request& r) { r.steps = 1001; });
}

TEST(PixelModel, FaultsOfFolders) {
  const TinyCheckpoints temporary;
  const auto fault = [&](const std::vector<std::string>& words, const char* file, const char* field,
                         const json& value) {
    const fs::path folder = write_pixel_model(temporary.root(), pixel_case("ddpm-learned"), Layout::kUsual);
    rewrite(folder / file, field, value);
    expect_fault(words, [&] { PixelPipeline(open_pixel_model(folder), f32()); });
  };
  fault({"StableDiffusionPipeline", "expected DDPMPipeline"}, "model_index.json", "_class_name",
        "StableDiffusionPipeline");
  fault({"unet/config.json: num_class_embeds"}, "unet/config.json", "num_class_embeds", 10);
  fault({"in_channels is 2", "RGB"}, "unet/config.json", "in_channels", 2);
  fault({"out_channels is 3, expected 6", "learned_range"}, "unet/config.json", "out_channels", 3);
  fault({"conv_norm_out.weight", "[32]", "[64]"}, "unet/config.json", "block_out_channels", {64, 64, 64, 64});
}

}  // namespace
}  // namespace easel
