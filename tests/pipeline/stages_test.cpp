// A U-Net that is loaded while other work goes on, as it is on CUDA devices.
#include "pipeline/stages.h"

#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

const Precision kFloat32 = {at::kCPU, at::kFloat, at::kFloat, at::kFloat};

Tensor out_of(StageSet& nets) {
  double seconds = 0;
  return nets.unet(&seconds)(at::ones({1, 4, 5, 7}), 500, at::ones({1, 77, 32}));
}

TEST(Stages, UNetLoadedAheadIsTheUNet) {
  const TinyCheckpoints tiny;
  const Checkpoint c = open_checkpoint(tiny.folder("sd1"));
  StageSet at_once(c, kFloat32), ahead(c, kFloat32);
  double seconds = 0;
  ahead.load_unet_ahead();
  ahead.text_encoder(Part::kTextEncoder, &seconds);
  EXPECT_TRUE(at::equal(out_of(ahead), out_of(at_once)));
  const UNet* loaded = &ahead.unet(&seconds);
  ahead.load_unet_ahead();
  EXPECT_EQ(&ahead.unet(&seconds), loaded);

  const auto drop = std::vector<std::function<void(StageSet&)>>{[](StageSet& nets) { nets.free_unet(); },
                                                                [](StageSet& nets) { nets.use_loras({}, false); }};
  for (const auto& dropped : drop) {
    StageSet nets(c, kFloat32);
    nets.load_unet_ahead();
    dropped(nets);
    EXPECT_FALSE(nets.is_loaded(Part::kUNet));
    EXPECT_TRUE(at::equal(out_of(nets), out_of(at_once)));
  }
  StageSet(c, kFloat32).load_unet_ahead();  // never asked for
}

TEST(Stages, FaultsOfLoadingAheadAreTheUNets) {
  const TinyCheckpoints tiny;
  const auto folder = tiny.folder("sd1");
  Tensors tensors = part_tensors("sd1", "unet");
  tensors.front().second.view(-1)[0] = NAN;
  write_safetensors(folder / "unet" / "diffusion_pytorch_model.safetensors", tensors);
  const Checkpoint c = open_checkpoint(folder);
  StageSet nets(c, kFloat32);
  nets.load_unet_ahead();
  for (int call = 0; call < 2; ++call) {  // of the thread, and at once
    try {
      out_of(nets);
      FAIL() << "NaN in " << tensors.front().first;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kFile);
      EXPECT_NE(std::string(error.what()).find(tensors.front().first), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace easel
