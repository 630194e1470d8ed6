// --vae with AutoencoderTiny (TAESD) in its forms: whole pictures against diffusers 0.42.1 (CPU, f32), and what is
// refused.
#include "pipeline/drawing.h"
#include "support/taesd.h"

namespace easel {
namespace {

using namespace testing;

class TinyVae : public ::testing::Test {
 protected:
  // config.json and diffusion_pytorch_model.safetensors.
  fs::path folder() const {
    const fs::path made = tiny_.root() / "taesd";
    if (fs::exists(made)) return made;
    fs::create_directories(made);
    std::ofstream(made / "config.json") << taesd_config(0);
    write_safetensors(made / "diffusion_pytorch_model.safetensors", taesd_tensors(0));
    return made;
  }
  fs::path file(const std::string& name, const Tensors& tensors) const {
    const fs::path made = tiny_.root() / name;
    write_safetensors(made, tensors);
    return made;
  }
  Checkpoint checkpoint(const fs::path& vae) const {
    Checkpoint c = open_checkpoint(tiny_.folder("sd1"));
    use_vae(c, vae);
    return c;
  }
  Picture drawn(const fs::path& vae, const std::function<void(Request&)>& change = {}) const {
    Pipeline pipeline(checkpoint(vae), precision_);
    Request r;
    r.prompt = "a cat", r.seed = 3, r.steps = 2, r.sampler = "ddim", r.width = 72, r.height = 56;
    if (change) change(r);
    return pipeline.generate(resolve(r, pipeline.checkpoint(), precision_));
  }
  static void begin_with_picture(Request& r) {
    r.init_img = data("golden/input.png").string();
    r.width.reset(), r.height.reset();
  }

  const Precision precision_ = resolve_precision("cpu", DtypeChoice::kF32);
  const TinyCheckpoints tiny_;
};

Request request_of(const json& golden) {
  Request r = request_in(golden, {"begins", "masked", "batch_count"});
  if (golden.at("begins").get<bool>()) r.init_img = data("golden/input.png").string();
  if (golden.at("masked").get<bool>()) {
    r.mask = data("golden/input-mask.png").string();
    r.no_paste_back = true;
  }
  return r;
}

TEST_F(TinyVae, PicturesEqualDiffusers) {
  Pipeline pipeline(checkpoint(folder()), precision_);
  const SourcePtr pictures = taesd_values();
  for (const json& golden : taesd().at("pictures")) {
    const std::string name = golden.at("name");
    for (int64_t k = 0; k < golden.at("batch_count").get<int64_t>(); ++k) {
      Request request = request_of(golden);
      *request.seed += static_cast<uint64_t>(k);
      const Picture picture = pipeline.generate(resolve(request, pipeline.checkpoint(), precision_));
      const double latent = relative_difference(picture.latent[0], pictures->load(name + ".latents")[k]);
      const int largest = largest_difference(picture.image, image_of(pictures->load(name)[k]));
      std::cout << name << ", picture " << k << ": latent " << latent << ", largest " << largest << "/255\n";
      EXPECT_LE(latent, 1e-4) << name;
      EXPECT_LE(largest, 1) << name;
    }
  }
}

TEST_F(TinyVae, EveryFormGivesTheSamePicture) {
  const Picture want = drawn(folder()), from_picture = drawn(folder(), begin_with_picture);
  // Away from config.json: known by its tensors.
  const fs::path bare = file("taesd.safetensors", taesd_tensors(0));
  expect_same(drawn(bare), want);
  expect_same(drawn(bare, begin_with_picture), from_picture);
  const fs::path decoder = file("taesd_decoder.safetensors", taesd_by_author(0, "decoder"));
  expect_same(drawn(decoder), want);
  file("taesd_encoder.safetensors", taesd_by_author(0, "encoder"));
  expect_same(drawn(decoder, begin_with_picture), from_picture);
  expect_same(drawn(decoder, [](Request& r) { r.vae_tiling = true; }), want);
}

TEST_F(TinyVae, ADecoderAloneTakesNoPicture) {
  const fs::path decoder = file("my_decoder.safetensors", taesd_by_author(0, "decoder"));
  for (const auto& [flag, change] : std::vector<std::pair<std::string, std::function<void(Request&)>>>{
           {"--init-img", begin_with_picture}, {"--hires", [](Request& r) { r.hires = 2, r.width = r.height = 64; }}})
    expect_fault(
        {flag + " needs the VAE's encoder", decoder.string(), "\"encoder\" in place of \"decoder\""},
        [&, change = change] { drawn(decoder, change); }, ErrorKind::kUsage);
  drawn(decoder, [](Request& r) { r.hires = 2, r.width = r.height = 64, r.hires_upscaler = "latent"; });
}

TEST_F(TinyVae, RefusesWhatIsNoDecoder) {
  const fs::path encoder = file("some_encoder.safetensors", taesd_by_author(0, "encoder"));
  expect_fault({encoder.string(), "TAESD's encoder alone", "--vae takes the decoder's file"},
               [&] { checkpoint(encoder); });
  const fs::path decoder = file("x_decoder.safetensors", taesd_by_author(0, "decoder"));
  file("x_encoder.safetensors", taesd_by_author(0, "decoder"));
  expect_fault({"x_encoder.safetensors", "expected TAESD's encoder", "x_decoder.safetensors"},
               [&] { checkpoint(decoder); });
}

TEST_F(TinyVae, RefusesOtherLatents) {
  // Sixteen channels, and pictures four times as wide.
  const fs::path other = file("taesd3.safetensors", taesd_tensors(1));
  expect_fault({"4 times as wide as latents", "own VAE's 8", "latents have 16 channels", "own VAE's 4"},
               [&] { checkpoint(other); });
}

TEST_F(TinyVae, EveryTensorIsAccountedFor) {
  Tensors tensors = taesd_by_author(0, "decoder");
  tensors.emplace_back("3.pool.0.weight", at::zeros({96, 24, 1, 1}));  // TAESD for FLUX.2 has such
  const fs::path pooled = file("pooled_decoder.safetensors", tensors);
  expect_fault({"unexpected tensor", "decoder.layers.2.pool.0.weight"}, [&] { drawn(pooled); });
}

}  // namespace
}  // namespace easel
