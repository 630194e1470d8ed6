// Pictures of tiny checkpoints, and the faults of those that cannot be drawn.
#pragma once

#include <fstream>

#include "easel/pipeline.h"
#include "pipeline/tiny_checkpoint.h"
#include "support/faults.h"

namespace easel::testing {

namespace fs = std::filesystem;

inline Picture draw(const fs::path& model, DtypeChoice dtype = DtypeChoice::kF32, const fs::path& vae = {}) {
  const Precision precision = resolve_precision("cpu", dtype);
  Checkpoint checkpoint = open_checkpoint(model);
  if (!vae.empty()) use_vae(checkpoint, vae);
  Pipeline pipeline(std::move(checkpoint), precision);
  Request request;
  request.prompt = "a photo of a cat, 고양이";
  request.seed = 3;
  request.steps = 2;
  request.sampler = "ddim";
  request.width = 72;
  request.height = 56;
  return pipeline.generate(resolve(request, pipeline.checkpoint(), precision));
}

// The same numbers; the last bits of products depend on how the file's tensors are aligned in memory.
inline void expect_same(const Picture& got, const Picture& want) {
  EXPECT_LE(relative_difference(got.latent, want.latent), 1e-4);
  for (std::size_t i = 0; i < want.image.pixels.size(); ++i)
    ASSERT_NEAR(got.image.pixels[i], want.image.pixels[i], 1) << "value " << i;
}

// Of two pictures' values; 255 where their sizes differ.
inline int largest_difference(const Image& a, const Image& b) {
  const auto difference = compare(a, b);
  return difference ? difference->largest : 255;
}

// From stored uint8 [height, width, 3].
inline Image image_of(const Tensor& stored) {
  const Tensor pixels = stored.contiguous();
  Image image;
  image.height = static_cast<int>(pixels.size(0)), image.width = static_cast<int>(pixels.size(1));
  image.pixels.assign(pixels.data_ptr<uint8_t>(), pixels.data_ptr<uint8_t>() + pixels.numel());
  return image;
}

// What a golden file's object says of a picture, but its name, its model and `others`.
inline Request request_in(const json& golden, const std::set<std::string>& others = {}) {
  Request r;
  Faults faults;
  for (const auto& [field, value] : golden.items()) {
    const bool is_other = field == "name" || field == "model" || others.contains(field);
    if (!is_other) set_from_json(r, *find_request_field(field), value, field, faults);
  }
  faults.raise_if_any(ErrorKind::kUsage);
  return r;
}

// Tests that draw with tiny checkpoints in float32, each opened once.
class TinyPipelines : public ::testing::Test {
 protected:
  Pipeline& pipeline(const std::string& model) {
    auto& one = pipelines_[model];
    if (!one) one = std::make_unique<Pipeline>(open_checkpoint(tiny_.folder(model)), precision_);
    return *one;
  }
  Request resolved(const Request& r, const std::string& model = "sd1") {
    return resolve(r, pipeline(model).checkpoint(), precision_);
  }

  const Precision precision_ = resolve_precision("cpu", DtypeChoice::kF32);
  const TinyCheckpoints tiny_;
  std::map<std::string, std::unique_ptr<Pipeline>> pipelines_;
};

inline void rewrite(const fs::path& file, const std::string& field, const json& value) {
  json content = read(file);
  content[field] = value;
  std::ofstream(file) << content;
}

inline Request resolved(const fs::path& folder, const std::function<void(Request&)>& change) {
  Request request;
  request.prompt = "a";
  request.seed = 1;
  change(request);
  return resolve(request, open_checkpoint(folder), resolve_precision("cpu", DtypeChoice::kF32));
}

}  // namespace easel::testing
