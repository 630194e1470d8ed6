// Whole pictures against diffusers 0.42.1 (CPU, f32) on the tiny models: every sampler, sizes, prompts, seeds.
#include "pipeline/drawing.h"
#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;

// The fields of a golden request, but those that make its files: a field that is not there was not given.
Request request_of(const json& golden) {
  std::set<std::string> others = {"key", "batch_count", "refiner"};
  // diffusers' pipelines hand eta to every scheduler; those that take none ignore it, ancestral ones too
  const SamplerRow& sampler = find_sampler(golden.at("sampler").get<std::string>());
  if (!sampler.has_eta || sampler.default_eta != 0) others.insert("eta");
  Request r = request_in(golden, others);
  r.prompt_syntax = "raw";  // diffusers'
  return r;
}

// Largest difference of 8-bit values, and how many differ at all.
std::pair<int, int64_t> difference(const Image& got, const Tensor& want) {
  const Tensor pixels =
      at::tensor(std::vector<int64_t>(got.pixels.begin(), got.pixels.end())).view({got.height, got.width, 3});
  const Tensor apart = (pixels - want.to(at::kLong)).abs();
  return {apart.max().item<int>(), apart.gt(0).sum().item<int64_t>()};
}

TEST(PictureParity, EqualsDiffusers) {
  const TinyCheckpoints tiny;
  std::map<std::string, std::unique_ptr<Pipeline>> pipelines;
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  for (const json& golden : read(data("golden/pictures.json"))) {
    const std::string model = golden.at("model");
    SCOPED_TRACE(golden.at("name").get<std::string>());
    auto& pipeline = pipelines[model];
    if (!pipeline) pipeline = std::make_unique<Pipeline>(open_checkpoint(tiny.folder(model)), f32);
    const SourcePtr pictures = open_safetensors(data("golden/" + model + ".pictures.safetensors"));
    const std::string key = golden.at("key");
    const Tensor want = pictures->load(key), latents = pictures->load(key + ".latents");
    const bool ancestral = golden.at("sampler") == "euler_a";
    for (int64_t k = 0; k < golden.at("batch_count").get<int64_t>(); ++k) {
      Request request = request_of(golden);
      request.seed = golden.at("seed").get<uint64_t>() + static_cast<uint64_t>(k);
      const Picture picture = pipeline->generate(resolve(request, pipeline->checkpoint(), f32));
      const double latent = relative_difference(picture.latent[0], latents[k]);
      const auto [largest, differing] = difference(picture.image, want[k]);
      std::cout << key << " picture " << k << ": latent " << latent << ", largest " << largest << "/255, " << differing
                << " values differ\n";
      // sd1-odd clips x0, which at its first timestep is (x − σ·eps) / 0.006: rounding grows by that before it is
      // clipped.
      EXPECT_LE(latent, model == "sd1-odd" ? 1e-2 : 1e-4);
      EXPECT_LE(largest, ancestral ? 2 : 1);
      EXPECT_LE(differing, static_cast<int64_t>(picture.image.pixels.size() / 50)) << "rounding moves few values";
    }
  }
}

// Stable Diffusion 2.x, XL, its refiner alone and behind the base (golden/families.json).
TEST(PictureParity, FamiliesEqualDiffusers) {
  const TinyCheckpoints tiny;
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Pipeline>> pipelines;
  for (const json& golden : read(data("golden/families.json"))) {
    const std::string model = golden.at("model"), name = golden.at("name"), refiner = golden.value("refiner", "");
    SCOPED_TRACE(name);
    auto& pipeline = pipelines[{model, refiner}];
    if (!pipeline) {
      Request files;
      files.model = tiny.folder(model).string();
      if (!refiner.empty()) files.refiner = tiny.folder(refiner).string();
      pipeline = std::make_unique<Pipeline>(open_models(files), f32);
    }
    const SourcePtr pictures = open_safetensors(data("golden/" + model + ".pictures.safetensors"));
    const Picture picture = pipeline->generate(resolve(request_of(golden), pipeline->checkpoint(), f32));
    const double latent = relative_difference(picture.latent, pictures->load(name + ".latents"));
    const auto [largest, differing] = difference(picture.image, pictures->load(name)[0]);
    std::cout << name << ": latent " << latent << ", largest " << largest << "/255, " << differing
              << " values differ\n";
    EXPECT_LE(latent, 1e-4);
    EXPECT_LE(largest, 1);
    EXPECT_LE(differing, static_cast<int64_t>(picture.image.pixels.size() / 50)) << "rounding moves few values";
  }
}

TEST(Picture, AloneEqualsAfterOthers) {
  const TinyCheckpoints tiny;
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  Request request;
  request.prompt = "a cat";
  request.seed = 5;
  request.steps = 2;
  request.width = request.height = 64;
  Pipeline first(open_checkpoint(tiny.folder("sd1")), f32);
  const Request resolved = resolve(request, first.checkpoint(), f32);
  const Picture alone = first.generate(resolved);
  Request other = resolved;
  other.prompt = "a dog";
  other.seed = 6;
  const Picture dog = first.generate(other);
  EXPECT_NE(dog.image.pixels, alone.image.pixels);
  EXPECT_EQ(first.generate(resolved).image.pixels, alone.image.pixels);
}

TEST(Picture, ProgressCountsNetworkCalls) {
  const TinyCheckpoints tiny;
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  Pipeline pipeline(open_checkpoint(tiny.folder("sd1")), f32);
  Request request;
  request.prompt = "";
  request.seed = 0;
  request.steps = 3;
  request.sampler = "pndm";  // one call more than steps
  request.width = request.height = 64;
  std::vector<std::pair<int, int>> seen;
  pipeline.generate(resolve(request, pipeline.checkpoint(), f32),
                    [&](int done, int total) { seen.emplace_back(done, total); });
  EXPECT_EQ(seen, (std::vector<std::pair<int, int>>{{1, 4}, {2, 4}, {3, 4}, {4, 4}}));
}

double psnr(const Image& a, const Image& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const double d = static_cast<double>(a.pixels[i]) - b.pixels[i];
    sum += d * d;
  }
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.pixels.size()) / sum);
}

// Half precision is held to a PSNR, on the bundled model: random weights amplify every rounding.
TEST(Picture, HalfPrecisionIsNearFloat) {
  const auto draw = [](DtypeChoice dtype) {
    const Precision precision = resolve_precision("cpu", dtype);
    Pipeline pipeline(open_checkpoint(find_model(kBundledModel)), precision);
    Request request;
    request.prompt = "a photo of an astronaut riding a horse on mars";
    request.seed = 1;
    request.steps = 10;
    request.sampler = "ddim";
    const Picture picture = pipeline.generate(resolve(request, pipeline.checkpoint(), precision));
    EXPECT_EQ(picture.precision.unet, precision.unet);
    return picture.image;
  };
  const Image full = draw(DtypeChoice::kF32);
  const double bf16 = psnr(draw(DtypeChoice::kBF16), full), f16 = psnr(draw(DtypeChoice::kF16), full);
  std::cout << "PSNR against f32: bf16 " << bf16 << " dB, f16 " << f16 << " dB\n";
  EXPECT_GE(bf16, 25);
  EXPECT_GE(f16, 35);
}

// ---- kernels ------------------------------------------------------------------------------------------------------

class KernelsOf {
 public:
  explicit KernelsOf(Kernels kernels) { set_kernels(kernels); }
  ~KernelsOf() { set_kernels(Kernels::kFast); }
};

Picture drawn_with(Kernels kernels, const std::filesystem::path& model, DtypeChoice dtype, int64_t side) {
  const KernelsOf scope(kernels);
  const Precision precision = resolve_precision("cpu", dtype);
  Pipeline pipeline(open_checkpoint(model), precision);
  Request r;
  r.prompt = "a photo of a cat";
  r.seed = 4;
  r.steps = 2;
  r.sampler = "ddim";
  r.width = r.height = side;
  return pipeline.generate(resolve(r, pipeline.checkpoint(), precision));
}

// 384 pixels a side are 2304 tokens: attention in blocks.
TEST(FastKernels, DrawThePlainOnesPicture) {
  const TinyCheckpoints tiny;
  for (const auto& [model, side] : {std::pair{"sd1", 72}, {"sd1", 384}, {"sdxl", 136}}) {
    const auto folder = tiny.folder(model);
    const Picture plain = drawn_with(Kernels::kPlain, folder, DtypeChoice::kF32, side);
    const Picture fast = drawn_with(Kernels::kFast, folder, DtypeChoice::kF32, side);
    EXPECT_LE(relative_difference(fast.latent, plain.latent), 1e-4) << model << " " << side;
    EXPECT_LE(compare(fast.image, plain.image)->largest, 1) << model << " " << side;
  }
}

// In half precision a picture is as far from the exact one with either.
TEST(FastKernels, LoseNoMoreInHalfPrecision) {
  const TinyCheckpoints tiny;
  const auto folder = tiny.folder("sd1");
  for (const int64_t side : {72, 384}) {
    const Picture exact = drawn_with(Kernels::kPlain, folder, DtypeChoice::kF32, side);
    const double plain =
        compare(drawn_with(Kernels::kPlain, folder, DtypeChoice::kBF16, side).image, exact.image)->psnr;
    const double fast = compare(drawn_with(Kernels::kFast, folder, DtypeChoice::kBF16, side).image, exact.image)->psnr;
    std::cout << side << ": bf16 against f32, plain kernels " << plain << " dB, fast ones " << fast << " dB\n";
    EXPECT_GE(fast, plain - 1.5);
  }
}

}  // namespace
}  // namespace easel
