// Whole pictures against diffusers 0.42.1 (CPU, f32) of every sampler that has a class there, over a spread of
// schedules, on eps and on v networks (scripts/golden/pictures_of_samplers_golden.py).
#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

// No class in diffusers, or (ipndm) one for another kind of network: tests/diffusion holds each of their steps.
const std::set<std::string> kNotInDiffusers = {"dpm++2s_a", "ipndm", "restart"};

// The fields of a golden request, but those that make its files.
Request request_of(const json& golden) { return request_in(golden, {"file"}); }

class SamplerPictures : public ::testing::Test {
 protected:
  // The model's, whose scheduler_config.json has these fields besides.
  Pipeline& pipeline(const std::string& model, const json& fields) {
    auto& made = pipelines_[{model, fields.dump()}];
    if (made) return *made;
    Checkpoint checkpoint = open_checkpoint(tiny_.folder(model));
    json file = checkpoint.scheduler.fields;
    file.update(fields);
    file["_class_name"] = checkpoint.scheduler.class_name;
    checkpoint.scheduler = SchedulerConfig::from_json(file, checkpoint.scheduler.where);
    made = std::make_unique<Pipeline>(std::move(checkpoint), f32_);
    return *made;
  }

  Picture draw(const json& golden) {
    Pipeline& of_model = pipeline(golden.at("model"), golden.value("file", json::object()));
    return of_model.generate(resolve(request_of(golden), of_model.checkpoint(), f32_));
  }

  void expect_pictures(const std::string& golden_name) {
    const SourcePtr pictures = open_safetensors(data("golden/" + golden_name + ".safetensors"));
    for (const json& golden : read(data("golden/" + golden_name + ".json"))) {
      const std::string name = golden.at("name");
      SCOPED_TRACE(name);
      const Picture picture = draw(golden);
      const double latent = relative_difference(picture.latent, pictures->load(name + ".latents"));
      const Tensor want = pictures->load(name)[0].to(at::kLong);
      const auto& values = picture.image.pixels;
      ASSERT_EQ(static_cast<int64_t>(values.size()), want.numel());
      const Tensor apart = (at::tensor(std::vector<int64_t>(values.begin(), values.end())) - want.flatten()).abs();
      const int64_t largest = apart.max().item<int64_t>(), differing = apart.gt(0).sum().item<int64_t>();
      std::cout << name << ": latent " << latent << ", largest " << largest << "/255, " << differing
                << " values differ\n";
      EXPECT_LE(latent, 1e-4);
      EXPECT_LE(largest, 1);
      EXPECT_LE(differing, want.numel() / 50) << "rounding moves few values";
    }
  }

  const Precision f32_ = resolve_precision("cpu", DtypeChoice::kF32);

 private:
  const TinyCheckpoints tiny_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Pipeline>> pipelines_;
};

TEST_F(SamplerPictures, EqualDiffusers) { expect_pictures("samplers.pictures"); }

// scripts/golden/deepcache_golden.py
TEST_F(SamplerPictures, WithDeepLayersReusedEqualDeepCache) { expect_pictures("deepcache"); }

TEST_F(SamplerPictures, EverySamplerWithAClassIsHeldOnBothPredictions) {
  std::map<std::string, std::set<PredictionType>> seen;
  for (const json& golden : read(data("golden/samplers.pictures.json"))) {
    const Request request =
        resolve(request_of(golden), pipeline(golden.at("model"), json::object()).checkpoint(), f32_);
    seen[*request.sampler].insert(*request.prediction == "v" ? PredictionType::kVPrediction : PredictionType::kEpsilon);
  }
  for (const SamplerRow& row : sampler_table()) {
    const std::size_t wanted = kNotInDiffusers.contains(row.name) ? 0 : 2;
    EXPECT_EQ(seen[row.name].size(), wanted) << row.name;
  }
}

}  // namespace
}  // namespace easel
