// AltDiffusion: an XLM-R text encoder before Stable Diffusion's U-Net, against diffusers' deprecated pipeline
// (scripts/golden/alt_golden.py).
#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

fs::path alt_folder(const TinyCheckpoints& tiny, const std::string& model) {
  const fs::path folder = tiny.folder(model);
  fs::remove_all(folder / "tokenizer");  // one tokenizer for both models
  fs::copy(data("models/alt/tokenizer"), folder / "tokenizer");
  return folder;
}

TEST(AltDiffusion, PicturesEqualTheReference) {
  const TinyCheckpoints tiny;
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  const SourcePtr pictures = open_safetensors(data("golden/alt.pictures.safetensors"));
  for (const json& golden : read(data("golden/alt.pictures.json"))) {
    const std::string name = golden.at("name");
    Pipeline pipeline(open_checkpoint(alt_folder(tiny, golden.at("model"))), f32);
    EXPECT_EQ(pipeline.checkpoint().family->name, "alt");
    Request request;
    request.prompt_syntax = "raw";
    Faults faults;
    for (const char* field : {"prompt", "negative_prompt", "width", "height", "steps", "cfg_scale", "sampler", "seed"})
      set_from_json(request, *find_request_field(field), golden.at(field), field, faults);
    ASSERT_TRUE(faults.empty());
    const Picture picture = pipeline.generate(resolve(request, pipeline.checkpoint(), f32));
    const Tensor want = pictures->load(name)[0].flatten().to(at::kLong);
    const auto& pixels = picture.image.pixels;
    const Tensor got = at::tensor(std::vector<int64_t>(pixels.begin(), pixels.end()));
    ASSERT_EQ(got.numel(), want.numel()) << name;
    const int64_t largest = (got - want).abs().max().item<int64_t>();
    std::cout << name << ": largest difference " << largest << "/255\n";
    EXPECT_LE(largest, 1) << name;
  }
}

TEST(AltDiffusion, FaultsAreNamed) {
  const TinyCheckpoints tiny;
  const fs::path folder = alt_folder(tiny, "alt");
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  expect_fault(
      {"--clip-skip 2", "layer 1"}, [&] { resolved(folder, [](Request& r) { r.clip_skip = 2; }); }, ErrorKind::kUsage);
  rewrite(folder / "text_encoder/config.json", "project_dim", 40);
  expect_fault({"hidden_size is 40", "cross_attention_dim is 32"}, [&] { open_checkpoint(folder); });
  rewrite(folder / "text_encoder/config.json", "project_dim", 32);
  rewrite(folder / "text_encoder/config.json", "vocab_size", 500);
  expect_fault({"text_encoder", "word_embeddings"}, [&] { Pipeline(open_checkpoint(folder), f32); });
  fs::remove(folder / "tokenizer/sentencepiece.bpe.model");
  fs::copy(fs::path(EASEL_SOURCE_DIR) / "models/easel-tiny/tokenizer/vocab.json", folder / "tokenizer/vocab.json");
  rewrite(folder / "text_encoder/config.json", "vocab_size",
          read(data("models/alt/text_encoder/config.json")).at("vocab_size"));
  expect_fault({"sentencepiece.bpe.model", "no such file"}, [&] { Pipeline(open_checkpoint(folder), f32); });
}

}  // namespace
}  // namespace easel
