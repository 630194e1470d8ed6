// Pictures that go through the networks together are what they are alone.
#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

// Unlike in all that pictures of a pack may be unlike in.
std::vector<Request> unlike_requests(std::size_t count, const std::function<void(Request&)>& change) {
  std::vector<Request> requests;
  for (std::size_t i = 0; i < count; ++i) {
    Request r;
    r.prompt = i % 3 == 2 ? "" : "picture number " + std::to_string(i);
    if (i % 2 == 1) r.negative_prompt = "blurry";
    r.seed = 100 + 7 * i;
    r.cfg_scale = 3.0 + static_cast<double>(i);
    r.steps = 3;
    r.sampler = "ddim";
    r.width = 64;
    r.height = 48;
    change(r);
    requests.push_back(r);
  }
  return requests;
}

struct PackCase {
  std::string name, model, refiner;
  std::function<void(Request&)> change;
};

class Packs : public ::testing::Test {
 protected:
  std::unique_ptr<Pipeline> pipeline(const PackCase& c, const Precision& precision) {
    Request files;
    files.model = tiny_.folder(c.model).string();
    if (!c.refiner.empty()) files.refiner = tiny_.folder(c.refiner).string();
    return std::make_unique<Pipeline>(open_models(files), precision);
  }

  // Whether all of them share a key, and the largest difference between together and alone.
  int difference(Pipeline& pipeline, const Precision& precision, const std::vector<Request>& requests) {
    std::vector<Request> resolved;
    for (const Request& r : requests) resolved.push_back(resolve(r, pipeline.checkpoint(), precision));
    for (const Request& r : resolved)
      EXPECT_EQ(pack_key(r, pipeline.checkpoint()), pack_key(resolved.front(), pipeline.checkpoint()));
    const std::vector<Outcome> together = pipeline.generate(resolved);
    EXPECT_EQ(together.size(), resolved.size());
    int largest = 0;
    for (std::size_t i = 0; i < together.size(); ++i)
      largest = std::max(
          largest, largest_difference(std::get<Picture>(together[i]).image, pipeline.generate(resolved[i]).image));
    return largest;
  }

  const TinyCheckpoints tiny_;
};

const std::string kInput = data("golden/input.png"), kMask = data("golden/input-mask.png");

TEST_F(Packs, EqualPicturesAlone) {
  const std::vector<PackCase> cases = {
      {"ddim", "sd1", "", [](Request& r) { r.cfg_rescale = 0.1 * *r.cfg_scale; }},
      {"ancestral noise", "sd1", "", [](Request& r) { r.sampler = "euler_a"; }},
      {"stochastic multistep", "sd1", "", [](Request& r) { r.sampler = "dpm++2m_sde"; }},
      {"two calls a step", "sd1", "", [](Request& r) { r.sampler = "heun"; }},
      {"guidance interval", "sd1", "", [](Request& r) { r.cfg_start = 0.3, r.cfg_end = 0.7; }},
      {"deep layers reused", "sd1", "", [](Request& r) { r.cfg_start = 0.3, r.cache = "deepcache:2"; }},
      {"no guidance", "sd1", "", [](Request& r) { r.cfg_scale = 1.0, r.negative_prompt.reset(); }},
      {"clip skip", "sd1", "", [](Request& r) { r.clip_skip = 1 + static_cast<int64_t>(*r.seed % 2); }},
      {"v prediction", "sd2-zsnr", "", [](Request&) {}},
      {"xl", "sdxl", "", [](Request& r) { r.original_size = std::to_string(*r.seed) + "x512"; }},
      {"refiner", "sdxl", "sdxl-refiner", [](Request& r) { r.aesthetic_score = *r.cfg_scale; }},
      {"image to image", "sd1", "", [](Request& r) { r.init_img = kInput, r.resize = "stretch"; }},
      {"inpainting", "sd1", "",
       [](Request& r) { r.init_img = kInput, r.mask = kMask, r.width = 104, r.height = 72, r.sampler = "euler_a"; }},
      {"inpainting U-Net", "sd1-inpaint", "",
       [](Request& r) { r.init_img = kInput, r.mask = kMask, r.width = 104, r.height = 72; }},
      {"hires", "sd1", "", [](Request& r) { r.hires = 1.5; }},
      {"hires latent", "sd1", "", [](Request& r) { r.hires = 1.5, r.hires_upscaler = "latent"; }}};
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  for (const PackCase& c : cases) {
    SCOPED_TRACE(c.name);
    const int apart = difference(*pipeline(c, f32), f32, unlike_requests(3, c.change));
    std::cout << c.name << ": " << apart << "/255\n";
    EXPECT_LE(apart, 1);
  }
}

TEST_F(Packs, OfAnySize) {
  const PackCase plain{"", "sd1", "", [](Request&) {}};
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  const auto drawing = pipeline(plain, f32);
  for (const std::size_t size : {1, 2, 3, 8})
    EXPECT_LE(difference(*drawing, f32, unlike_requests(size, plain.change)), 1);
}

TEST(PackOfTheBundledModel, StaysNearInHalfPrecision) {
  const Precision bf16 = resolve_precision("cpu", DtypeChoice::kBF16);
  Pipeline pipeline(open_checkpoint(find_model(kBundledModel)), bf16);
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 3; ++i) {
    Request r;
    r.prompt = std::vector<std::string>{"a dog in the desert", "a cat on mars", "숲속의 여우"}[i];
    r.seed = i;
    r.steps = 5;
    requests.push_back(resolve(r, pipeline.checkpoint(), bf16));
  }
  const std::vector<Outcome> together = pipeline.generate(requests);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const int apart = largest_difference(std::get<Picture>(together[i]).image, pipeline.generate(requests[i]).image);
    std::cout << "bf16 " << i << ": " << apart << "/255\n";
    EXPECT_LE(apart, 3);
  }
}

TEST_F(Packs, KeysTellApartWhatCannotGoTogether) {
  const Checkpoint c = open_checkpoint(tiny_.folder("sd1"));
  const auto key = [&](const std::function<void(Request&)>& change) {
    Request r;
    r.prompt = "a";
    r.seed = 1;
    r.steps = 4;
    r.sampler = "ddim";
    change(r);
    return pack_key(resolve(r, c, resolve_precision("cpu", DtypeChoice::kF32)), c);
  };
  const std::string plain = key([](Request&) {});
  EXPECT_EQ(key([](Request& r) { r.prompt = "b", r.seed = 2, r.negative_prompt = "c", r.cfg_scale = 3; }), plain);
  std::set<std::string> keys = {plain};
  for (const std::function<void(Request&)>& change : std::vector<std::function<void(Request&)>>{
           [](Request& r) { r.width = 64; }, [](Request& r) { r.steps = 5; }, [](Request& r) { r.sampler = "euler"; },
           [](Request& r) { r.scheduler = "trailing"; }, [](Request& r) { r.eta = 0.5; },
           [](Request& r) { r.cfg_scale = 1; }, [](Request& r) { r.cfg_end = 0.5; },
           [](Request& r) { r.prediction = "v"; }, [](Request& r) { r.hires = 2; },
           [](Request& r) { r.init_img = kInput, r.width = r.height = 128; },
           [](Request& r) { r.timesteps = "900,500,100,20"; }})
    EXPECT_TRUE(keys.insert(key(change)).second);
}

TEST_F(Packs, APictureThatFailsLeavesTheOthers) {
  const PackCase plain{"", "sd1", "", [](Request&) {}};
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  const auto drawing = pipeline(plain, f32);
  std::vector<Request> requests;
  // Guidance that overflows float32.
  for (const double scale : {3.0, 1000.0, 4.0}) {
    Request r = unlike_requests(1, plain.change).front();
    r.cfg_scale = scale;
    r = resolve(r, drawing->checkpoint(), f32);
    if (scale == 1000.0) r.cfg_scale = 1e38;
    requests.push_back(r);
  }
  const std::vector<Outcome> outcomes = drawing->generate(requests);
  ASSERT_TRUE(std::holds_alternative<Error>(outcomes[1]));
  EXPECT_EQ(std::get<Error>(outcomes[1]).kind(), ErrorKind::kPicture);
  for (const std::size_t i : {0, 2})
    EXPECT_LE(largest_difference(std::get<Picture>(outcomes[i]).image, drawing->generate(requests[i]).image), 1);
}

}  // namespace
}  // namespace easel
