// Pictures that begin with a picture: image-to-image and inpainting against diffusers 0.42.1 (CPU, f32) on the tiny
// models, and what the reference does not have: paste-back, outpainting, a second pass, strips.
#include "pipeline/drawing.h"
#include "pipeline/memory_plan.h"

namespace easel {
namespace {

using namespace testing;

const Precision kF32 = resolve_precision("cpu", DtypeChoice::kF32);

fs::path input() { return data("golden/input.png"); }
fs::path input_mask() { return data("golden/input-mask.png"); }

// Largest difference of 8-bit values, and how many differ at all.
std::pair<int, int64_t> difference(const Image& got, const Tensor& want) {
  const Tensor pixels =
      at::tensor(std::vector<int64_t>(got.pixels.begin(), got.pixels.end())).view({got.height, got.width, 3});
  const Tensor apart = (pixels - want.to(at::kLong)).abs();
  return {apart.max().item<int>(), apart.gt(0).sum().item<int64_t>()};
}

Request request_of(const json& golden) {
  Request r = request_in(golden, {"masked", "batch_count"});
  r.init_img = input().string();
  if (!golden.at("masked").get<bool>()) return r;
  r.mask = input_mask().string();
  r.no_paste_back = true;
  return r;
}

TEST(PicturesIn, EqualDiffusers) {
  const TinyCheckpoints tiny;
  std::map<std::string, std::unique_ptr<Pipeline>> pipelines;
  const SourcePtr pictures = open_safetensors(data("golden/pictures_in.safetensors"));
  for (const json& golden : read(data("golden/pictures_in.json"))) {
    const std::string model = golden.at("model"), name = golden.at("name");
    SCOPED_TRACE(name);
    auto& pipeline = pipelines[model];
    if (!pipeline) pipeline = std::make_unique<Pipeline>(open_checkpoint(tiny.folder(model)), kF32);
    const Tensor want = pictures->load(name), latents = pictures->load(name + ".latents");
    for (int64_t k = 0; k < golden.at("batch_count").get<int64_t>(); ++k) {
      Request request = request_of(golden);
      *request.seed += static_cast<uint64_t>(k);
      const Picture picture = pipeline->generate(resolve(request, pipeline->checkpoint(), kF32));
      const double latent = relative_difference(picture.latent[0], latents[k]);
      const auto [largest, differing] = difference(picture.image, want[k]);
      std::cout << name << (golden.at("masked").get<bool>() ? " masked" : "") << ", picture " << k << ": latent "
                << latent << ", largest " << largest << "/255, " << differing << " values differ\n";
      EXPECT_LE(latent, 1e-4);
      EXPECT_LE(largest, 1);
      EXPECT_LE(differing, static_cast<int64_t>(picture.image.pixels.size() / 50)) << "rounding moves few values";
    }
  }
}

class Drawn : public ::testing::Test {
 protected:
  Drawn() : pipeline_(open_checkpoint(tiny_.folder("sd1")), kF32) {
    request_.prompt = "a cat";
    request_.seed = 4;
    request_.steps = 3;
    request_.sampler = "euler";
    request_.init_img = input().string();
  }

  Request resolved() const { return resolve(request_, pipeline_.checkpoint(), kF32); }
  Image draw() { return pipeline_.generate(resolved()).image; }
  void expect_refused(const std::vector<std::string>& words, ErrorKind kind = ErrorKind::kUsage) {
    expect_fault(
        words, [&] { draw(); }, kind);
  }

  const TinyCheckpoints tiny_;
  Pipeline pipeline_;
  Request request_;
};

TEST_F(Drawn, PixelsOutsideOfTheMaskStay) {
  request_.mask = input_mask().string();
  const Image original = read_picture(input()), out = draw();
  const Mask mask = grey(read_picture(input_mask()));
  int64_t inside = 0;
  for (std::size_t i = 0; i < out.pixels.size(); ++i) {
    if (mask.pixels[i / 3] < 128)
      ASSERT_EQ(out.pixels[i], original.pixels[i]) << "value " << i;
    else
      inside += out.pixels[i] != original.pixels[i];
  }
  EXPECT_GT(inside, 1000);
  request_.invert_mask = true;
  const Image inverse = draw();
  for (std::size_t i = 0; i < out.pixels.size(); ++i) {
    if (mask.pixels[i / 3] >= 128) {
      ASSERT_EQ(inverse.pixels[i], original.pixels[i]) << "value " << i;
    }
  }
}

TEST_F(Drawn, ACropIsRepaintedAtTheModelsSize) {
  request_.mask = input_mask().string();
  request_.inpaint_full_res = true;
  const Request r = resolved();
  EXPECT_EQ(r.width, pipeline_.checkpoint().native_width());
  EXPECT_EQ(r.inpaint_padding, 32);
  const Image out = draw(), original = read_picture(input());
  EXPECT_EQ(std::pair(out.width, out.height), std::pair(original.width, original.height));
  EXPECT_EQ(out.pixels[0], original.pixels[0]);
  EXPECT_NE(out.pixels, original.pixels);
}

TEST_F(Drawn, OutpaintingExtendsTheCanvasAgainAndAgain) {
  request_.outpaint = "16,0,24,8";
  const Image original = read_picture(input()), once = draw();
  ASSERT_EQ(std::pair(once.width, once.height), std::pair(original.width + 40, original.height + 8));
  const auto pixel = [](const Image& image, int x, int y) { return image.pixels[3 * (y * image.width + x)]; };
  for (int y = 0; y < original.height - 8; y += 7)
    EXPECT_EQ(pixel(once, 16 + original.width / 2, y), pixel(original, original.width / 2, y)) << y;
  const fs::path file = tiny_.root() / "once.png";
  write_file_atomically(file, encode_png(once, {}), false);
  request_.init_img = file.string();
  request_.outpaint = "0,16,0,0";
  EXPECT_EQ(draw().height, once.height + 16);
}

TEST_F(Drawn, TheSizeIsThePicturesUnlessSaid) {
  Request r = resolved();
  EXPECT_EQ(std::pair(*r.width, *r.height), std::pair(int64_t{104}, int64_t{72}));
  EXPECT_FALSE(r.resize);
  EXPECT_EQ(r.strength, 0.75);
  request_.width = 208;
  r = resolved();
  EXPECT_EQ(r.height, 144);
  EXPECT_EQ(r.resize, "fill");
  request_.height = 80;
  request_.resize = "fit";
  EXPECT_EQ(resolved().resize, "fit");
  EXPECT_EQ(draw().height, 80);

  const fs::path file = tiny_.root() / "odd.png";
  write_file_atomically(file, encode_png(resize(read_picture(input()), 101, 70), {}), false);
  request_.init_img = file.string();
  request_.width = request_.height = std::nullopt;
  request_.resize.reset();
  expect_refused({"is 101x70", "multiples of 8", "--resize fill cuts it to 104x72"});
  request_.resize = "fill";
  EXPECT_EQ(std::pair(draw().width, draw().height), std::pair(104, 72));
}

// Two runs do the same: the second pass draws from a stream of its own.
TEST_F(Drawn, ASecondPassEqualsASecondRun) {
  request_.init_img.reset();
  request_.width = 64;
  request_.height = 48;
  const Image small = draw();
  request_.hires = 1.5;
  request_.hires_steps = 4;
  std::vector<int> calls;
  const auto count = [&](int done, int total) {
    calls.push_back(total);
    EXPECT_EQ(done, static_cast<int>(calls.size()));
  };
  const Image large = pipeline_.generate(resolved(), count).image;
  EXPECT_EQ(calls, std::vector<int>(5, 5)) << "3 steps, and the half of 4";
  ASSERT_EQ(std::pair(large.width, large.height), std::pair(96, 72));

  const fs::path file = tiny_.root() / "large.png";
  write_file_atomically(file, encode_png(resize(small, 96, 72), {}), false);
  Request second = request_;
  second.hires.reset();
  second.hires_steps.reset();
  second.width.reset();
  second.height.reset();
  second.steps = 4;
  second.strength = 0.5;
  second.init_img = file.string();
  EXPECT_EQ(pipeline_.generate(resolve(second, pipeline_.checkpoint(), kF32)).image.pixels, large.pixels);

  request_.hires = 1.3334;  // as typed for 4/3
  request_.width = 48;
  EXPECT_EQ(std::pair(draw().width, draw().height), std::pair(64, 64));
  request_.hires = 1.5;
  request_.width = 64;
  request_.hires_upscaler = "latent";
  const Image of_latent = draw();
  EXPECT_EQ(of_latent.width, 96);
  EXPECT_NE(of_latent.pixels, large.pixels);
}

TEST_F(Drawn, StripsDrawTheSamePicture) {
  const Image whole = draw();
  const auto largest = [&](const Image& other) {
    int apart = 0;
    for (std::size_t i = 0; i < whole.pixels.size(); ++i)
      apart = std::max(apart, std::abs(int{whole.pixels[i]} - int{other.pixels[i]}));
    return apart;
  };
  request_.vae_tiling = true;
  EXPECT_LE(largest(draw()), 1);
  request_.vae_tiling.reset();
  request_.vae_tiling_fast = true;
  EXPECT_LE(largest(draw()), 1) << "one tile holds all of it";
}

TEST_F(Drawn, FaultsAreNamed) {
  const Request plain = request_;
  const auto refused = [&](const std::function<void(Request&)>& change, const std::vector<std::string>& words,
                           ErrorKind kind = ErrorKind::kUsage) {
    request_ = plain;
    change(request_);
    expect_refused(words, kind);
  };
  const std::string mask = input_mask().string();
  refused([](Request& r) { r.init_img.reset(), r.strength = 0.5; }, {"--strength has no effect without --init-img"});
  refused([&](Request& r) { r.init_img.reset(), r.mask = mask; }, {"--mask has no effect without --init-img"});
  refused([](Request& r) { r.invert_mask = true, r.mask_blur = 2; },
          {"--invert-mask has no effect without --mask", "--mask-blur has no effect without --mask"});
  refused([](Request& r) { r.no_paste_back = true; }, {"--no-paste-back has no effect without --mask or --outpaint"});
  refused([&](Request& r) { r.mask = mask, r.outpaint = "8,8,8,8"; }, {"exclude each other"});
  refused([](Request& r) { r.hires_steps = 3; }, {"--hires-steps has no effect without --hires"});
  refused([](Request& r) { r.hires = 1.3; }, {"-W 104 becomes 135.2, expected a multiple of 8; 1.3077 gives one"});
  refused([](Request& r) { r.strength = 0.1; }, {"no step is left of 3"});
  refused([](Request& r) { r.outpaint = "16300,0,0,0"; }, {"16404x72 is too large"});
  refused([](Request& r) { r.vae_tiling = r.vae_tiling_fast = true; }, {"--vae-tiling and --vae-tiling-fast"});
  for (const char* cache : {"deepcache", "deepcache:", "deepcache:1", "deepcache:3:", "deepcache:3:-1", "deepcache:x",
                            "deepcache:3:0:0", "tgate:3"})
    refused([=](Request& r) { r.cache = cache; }, {"--cache \"", "expected deepcache:N or deepcache:N:B"});
  refused([](Request& r) { r.cache = "deepcache:3:99"; }, {"--cache \"deepcache:3:99\": this U-Net has "});
  refused([](Request& r) { r.init_img = "/nowhere.png"; }, {"/nowhere.png"}, ErrorKind::kFile);
  refused([&](Request& r) { r.mask = data("pictures/grey.png"); }, {"--mask is ", "the picture is 104x72"});

  const fs::path black = tiny_.root() / "black.png";
  write_file_atomically(black, encode_png({104, 72, std::vector<uint8_t>(3 * 104 * 72)}, {}), false);
  refused([&](Request& r) { r.mask = black.string(); }, {"black everywhere", "--invert-mask"});
  Request unknown;
  Faults faults;
  for (const char* strength : {"0", "1.5", "-1", "nan"})
    set_from_text(unknown, *find_request_field("strength"), strength, "--strength", faults);
  EXPECT_EQ(faults.list().size(), 4u);
}

TEST(PicturesIn, AnInpaintingModelWantsAPictureAndAMask) {
  const TinyCheckpoints tiny;
  const fs::path folder = tiny.folder("sd1-inpaint");
  const auto with = [&](const std::function<void(Request&)>& change) {
    return [&folder, change] { resolved(folder, change); };
  };
  const std::vector<std::string> words = {"9 channels", "inpainting model", "--init-img with --mask or --outpaint"};
  expect_fault(words, with([](Request&) {}), ErrorKind::kUsage);
  expect_fault(words, with([](Request& r) { r.init_img = input().string(); }), ErrorKind::kUsage);
  const Request r = resolved(folder, [](Request& q) { q.init_img = input().string(), q.outpaint = "8,0,0,0"; });
  EXPECT_EQ(r.width, 112);
  EXPECT_EQ(r.strength, 1.0);
}

TEST(PicturesIn, MemoryIsPlannedWithTheEncoderAndStrips) {
  const TinyCheckpoints tiny;
  const Checkpoint c = open_checkpoint(tiny.folder("sd1"));
  StageSet nets(c, kF32);
  Request request;
  request.prompt = "a";
  request.seed = 1;
  request.width = request.height = 1024;
  const auto phases = [&] { return memory_phases(resolve(request, c, kF32), nets, nullptr); };
  EXPECT_EQ(phases().size(), 3u);
  request.hires = 2;
  const std::vector<MemoryPhase> large = phases();
  ASSERT_EQ(large.size(), 4u);
  EXPECT_EQ(large[1].kind, MemoryPhase::Kind::kEncoder);
  EXPECT_GT(large[1].weights, 0);
  const MemoryPlan whole = plan_memory(large, int64_t{1} << 50), short_of = plan_memory(large, whole.peak / 2);
  EXPECT_FALSE(whole.strips);
  EXPECT_TRUE(short_of.strips);
  EXPECT_LT(short_of.peak, whole.peak);
}

}  // namespace
}  // namespace easel
