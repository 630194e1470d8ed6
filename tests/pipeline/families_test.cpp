// Stable Diffusion 2.x and XL: which family a checkpoint is, what a request means there, --vae and --refiner.
#include "pipeline/configs.h"
#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

TEST(Checkpoint, FamiliesFollowFromTheParts) {
  const TinyCheckpoints tiny;
  for (const auto& [model, family] : {std::pair{"sd1", "sd1"},
                                      {"sd1-linear", "sd1"},
                                      {"sd2", "sd2"},
                                      {"sdxl", "sdxl"},
                                      {"sdxl-refiner", "sdxl-refiner"}})
    EXPECT_EQ(open_checkpoint(tiny.folder(model)).family->name, family);
  rewrite(tiny.folder("sdxl") / "model_index.json", "_class_name", "StableDiffusionXLImg2ImgPipeline");
  EXPECT_EQ(open_checkpoint(tiny.folder("sdxl")).family->name, "sdxl");
}

// models/specs stands for the published folders: every one is read as its family.
TEST(Checkpoint, PublishedConfigsAreOfTheirFamilies) {
  const std::map<std::string, std::string> families = {{"sd15", "sd1"},
                                                       {"sd15-inpainting", "sd1"},
                                                       {"sd2", "sd2"},
                                                       {"sd2-base", "sd2"},
                                                       {"sd2-inpainting", "sd2"},
                                                       {"sdxl", "sdxl"},
                                                       {"sdxl-inpainting", "sdxl"},
                                                       {"sdxl-refiner", "sdxl-refiner"},
                                                       {"ssd-1b", "sdxl"},
                                                       {"segmind-vega", "sdxl"}};
  for (const auto& [spec, family] : families) {
    SCOPED_TRACE(spec);
    Checkpoint c;
    c.path = spec;
    read_configs(c, configs_of_spec(models_folder() / "specs" / spec));
    EXPECT_NO_THROW(check_fit(c));
    EXPECT_EQ(c.family->name, family);
    EXPECT_EQ(c.takes_picture(), spec.find("inpainting") != std::string::npos);
    EXPECT_EQ(c.native_width(), family == "sd1"                    ? 512
                                : family == "sd2" && spec != "sd2" ? 512
                                : family == "sd2"                  ? 768
                                                                   : 1024);
  }
  for (const FamilyRow& row : family_table()) {
    if (row.spec_folder.empty()) continue;  // no single files of it
    EXPECT_EQ(families.at(row.spec_folder), row.name);
  }
}

TEST(Checkpoint, PartsOfXlThatDoNotFit) {
  const auto changed = [](const std::string& file, const std::string& field, const json& value) {
    return [=] {
      const TinyCheckpoints tiny;
      rewrite(tiny.folder("sdxl") / file, field, value);
      open_checkpoint(tiny.folder("sdxl"));
    };
  };
  expect_fault({"text_encoder_2", "CLIPTextModelWithProjection"},
               changed("text_encoder_2/config.json", "architectures", json::array({"CLIPTextModel"})));
  expect_fault({"projection_class_embeddings_input_dim is 88, expected 96", "of 48"},
               changed("text_encoder_2/config.json", "projection_dim", 48));
  expect_fault({"projection_class_embeddings_input_dim is 88, expected 80", "requires_aesthetics_score is true"},
               changed("model_index.json", "requires_aesthetics_score", true));
  expect_fault({"the text encoders' hidden_size is 96"}, changed("text_encoder/config.json", "hidden_size", 48));
  expect_fault({"force_zeros_for_empty_prompt", "expected true or false"},
               changed("model_index.json", "force_zeros_for_empty_prompt", 1));
  const TinyCheckpoints tiny;
  fs::remove_all(tiny.folder("sdxl") / "text_encoder_2");
  expect_fault({"takes a pooled text"}, [&] { open_checkpoint(tiny.folder("sdxl")); });
}

// They load, as `inspect` and `convert` need; a picture is refused by name.
TEST(Checkpoint, ModelsThatDrawIntoPictures) {
  for (const auto& [channels, word] : {std::pair{9, "an inpainting model"}, {8, "an instruct-pix2pix model"}}) {
    const TinyCheckpoints tiny;
    rewrite(tiny.folder("sd1") / "unet/config.json", "in_channels", channels);
    rewrite(tiny.folder("sd1") / "model_index.json", "_class_name", "StableDiffusionInpaintPipeline");
    const Checkpoint c = open_checkpoint(tiny.folder("sd1"));
    EXPECT_TRUE(c.takes_picture());
    Request request;
    request.prompt = "a";
    request.seed = 1;
    expect_fault(
        {word}, [&] { resolve(request, c, resolve_precision("cpu", DtypeChoice::kF32)); }, ErrorKind::kUsage);
  }
}

// ---- resolving ----------------------------------------------------------------------------------------------------

TEST(ResolveFamilies, FillsWhatXlIsTold) {
  const TinyCheckpoints tiny;
  const auto wide = [](Request& q) {
    q.width = 136;
    q.height = 88;
  };
  const Request base = resolved(tiny.folder("sdxl"), wide), refiner = resolved(tiny.folder("sdxl-refiner"), wide);
  EXPECT_EQ(*base.cfg_scale, 5.0);
  EXPECT_EQ(*base.clip_skip, 2);
  EXPECT_EQ(*base.original_size, "136x88");
  EXPECT_EQ(*base.crop, "0,0");
  EXPECT_EQ(*base.target_size, "136x88");
  EXPECT_FALSE(base.aesthetic_score || base.refiner_start || base.negative_prompt);
  EXPECT_FALSE(refiner.target_size);
  EXPECT_EQ(*refiner.aesthetic_score, 6.0);
  EXPECT_EQ(*refiner.negative_aesthetic_score, 2.5);
}

TEST(ResolveFamilies, ClipSkipCountsFromTheFullEncoder) {
  const TinyCheckpoints tiny;
  const auto skip = [](int64_t k) { return [k](Request& q) { q.clip_skip = k; }; };
  EXPECT_EQ(*resolved(tiny.folder("sd2"), [](Request&) {}).clip_skip, 2);
  EXPECT_NO_THROW(resolved(tiny.folder("sd2"), skip(24)));
  expect_fault(
      {"--clip-skip 1", "last layer", "from 2 on"}, [&] { resolved(tiny.folder("sd2"), skip(1)); }, ErrorKind::kUsage);
  expect_fault(
      {"--clip-skip 25", "layers 1 to 24"}, [&] { resolved(tiny.folder("sd2"), skip(25)); }, ErrorKind::kUsage);
  expect_fault(
      {"--clip-skip 4", "layers 1 to 3"}, [&] { resolved(tiny.folder("sdxl"), skip(4)); }, ErrorKind::kUsage);
}

TEST(ResolveFamilies, WhatHasNoEffectIsRefused) {
  const TinyCheckpoints tiny;
  const auto refused = [&](const char* model, const std::vector<std::string>& words,
                           const std::function<void(Request&)>& change) {
    expect_fault(
        words, [&] { resolved(tiny.folder(model), change); }, ErrorKind::kUsage);
  };
  refused("sd1",
          {"--prompt-2 has no effect", "no second", "--original-size has no effect", "--crop has", "--target-size has",
           "--refiner-start has no effect without --refiner", "--aesthetic-score has no effect"},
          [](Request& q) {
            q.prompt_2 = "b";
            q.original_size = q.target_size = "8x8";
            q.crop = "0,0";
            q.refiner_start = 0.5;
            q.aesthetic_score = 5;
          });
  refused("sdxl", {"--negative-prompt-2 has no effect without --negative-prompt", "zeros"},
          [](Request& q) { q.negative_prompt_2 = "b"; });
  refused("sdxl", {"--cfg-rescale has no effect at --cfg-scale 1.0", "--negative-prompt-2 has no effect"},
          [](Request& q) {
            q.cfg_scale = 1;
            q.cfg_rescale = 0.5;
            q.negative_prompt_2 = "b";
          });
  refused("sdxl-refiner", {"--prompt-2 has no effect", "first prompt", "--target-size has no effect"}, [](Request& q) {
    q.prompt_2 = "b";
    q.target_size = "8x8";
  });
}

// LCM's U-Nets (time_cond_proj_dim) are told the guidance scale, and have no second half to guide with.
TEST(ResolveFamilies, GuidanceThatIsBuiltIn) {
  const TinyCheckpoints tiny;
  const fs::path folder = tiny.folder("sd1");
  rewrite(folder / "unet/config.json", "time_cond_proj_dim", 16);
  rewrite(folder / "model_index.json", "_class_name", "LatentConsistencyModelPipeline");
  const fs::path unet = folder / "unet/diffusion_pytorch_model.safetensors";
  Tensors tensors = part_tensors("sd1", "unet");
  tensors.emplace_back("time_embedding.cond_proj.weight", random_weight("unet/cond_proj.weight", {32, 16}, 0));
  write_safetensors(unet, tensors);
  const Request r = resolved(folder, [](Request&) {});
  EXPECT_EQ(*r.cfg_scale, 8.5);
  EXPECT_EQ(*r.steps, 4);
  EXPECT_FALSE(r.cfg_rescale);
  expect_fault(
      {"--negative-prompt has no effect: this U-Net was distilled"},
      [&] { resolved(folder, [](Request& q) { q.negative_prompt = "b"; }); }, ErrorKind::kUsage);

  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  Pipeline pipeline(open_checkpoint(folder), f32);
  const auto drawn = [&](double scale) {
    return pipeline
        .generate(resolved(folder,
                           [&](Request& q) {
                             q.cfg_scale = scale;
                             q.steps = 1;
                             q.width = q.height = 64;
                           }))
        .image.pixels;
  };
  EXPECT_NE(drawn(8.5), drawn(3.0));
}

// ---- --vae and --refiner ------------------------------------------------------------------------------------------

TEST(OtherVae, ReplacesTheModelsOwn) {
  const TinyCheckpoints tiny;
  const fs::path model = tiny.folder("sd1"), file = tiny.root() / "vae.safetensors", part = tiny.root() / "vae";
  Tensors tensors = part_tensors("sd1", "vae");
  for (auto& [name, tensor] : tensors) {
    if (name == "decoder.conv_out.weight") tensor = -tensor;
  }
  write_safetensors(file, tensors);
  fs::create_directories(part);
  write_safetensors(part / "diffusion_pytorch_model.safetensors", tensors);
  fs::copy(model / "vae/config.json", part / "config.json");
  const fs::path ldm = tiny.root() / "ldm.safetensors";
  write_safetensors(ldm,
                    *as_single_file(tensor_source(tensors, "vae"), {"vae", "", Naming::kLdm}, config("sd1", "vae")));
  const Picture own = draw(model), other = draw(model, DtypeChoice::kF32, file);
  EXPECT_NE(own.image.pixels, other.image.pixels);
  EXPECT_LE(relative_difference(other.latent, own.latent), 1e-6);
  expect_same(draw(model, DtypeChoice::kF32, part), other);
  expect_same(draw(model, DtypeChoice::kF32, ldm), other);
  expect_same(draw(model, DtypeChoice::kF32, model), own);
  rewrite(part / "config.json", "scaling_factor", 0.5);  // a folder's numbers are its own
  EXPECT_NE(draw(model, DtypeChoice::kF32, part).image.pixels, other.image.pixels);
}

TEST(OtherVae, WhatIsNoneIsRefused) {
  const TinyCheckpoints tiny;
  Checkpoint c = open_checkpoint(tiny.folder("sd1"));
  const fs::path file = tiny.root() / "x.safetensors";
  expect_fault({"no VAE at", "nowhere"}, [&] { use_vae(c, tiny.root() / "nowhere"); });
  write_safetensors(file, {{"lora_unet_down.lora_down.weight", at::zeros({4})}});
  expect_fault({"no VAE in it", "LoRA"}, [&] { use_vae(c, file); });
  expect_fault({"times as wide"}, [&] { use_vae(c, tiny.folder("sd1-odd")); });
}

TEST(OtherVae, HasAHashOfItsOwn) {
  const TinyCheckpoints tiny;
  setenv("EASEL_CACHE", (tiny.root() / "cache").c_str(), 1);
  Checkpoint c = open_checkpoint(tiny.folder("sdxl"));
  EXPECT_EQ(model_hashes(c, false).vae, "");
  use_vae(c, tiny.folder("sdxl-refiner"));
  use_refiner(c, tiny.folder("sdxl-refiner"));
  const ModelHashes hashes = model_hashes(c, false);
  unsetenv("EASEL_CACHE");
  EXPECT_EQ(hashes.model.size(), 64u);
  EXPECT_EQ(hashes.vae.size(), 64u);
  EXPECT_EQ(hashes.refiner.size(), 64u);
  const Request r = [&] {
    Request q;
    q.prompt = "a";
    q.seed = 1;
    return resolve(q, c, resolve_precision("cpu", DtypeChoice::kF32));
  }();
  EXPECT_EQ(*r.refiner_start, 0.8);
  const auto texts = png_texts(r, hashes, c);
  EXPECT_NE(texts[0].text.find("Refiner: sdxl-refiner, Refiner switch at: 0.8"), std::string::npos) << texts[0].text;
  EXPECT_EQ(json::parse(texts[1].text).at("refiner_hash"), hashes.refiner);
}

TEST(Refiner, OfOtherLatentsIsRefused) {
  const TinyCheckpoints tiny;
  Checkpoint sd1 = open_checkpoint(tiny.folder("sd1")), xl = open_checkpoint(tiny.folder("sdxl"));
  expect_fault({"both must be Stable Diffusion XL"}, [&] { use_refiner(sd1, tiny.folder("sdxl-refiner")); });
  rewrite(tiny.folder("sdxl-refiner") / "vae/config.json", "scaling_factor", 0.18215);
  expect_fault({"another kind of latent"}, [&] { use_refiner(xl, tiny.folder("sdxl-refiner")); });
}

TEST(Refiner, WithoutAStepIsRefused) {
  const TinyCheckpoints tiny;
  Checkpoint c = open_checkpoint(tiny.folder("sdxl"));
  use_refiner(c, tiny.folder("sdxl-refiner"));
  for (const double start : {0.01, 0.999}) {  // the schedule is 667, 334, 1
    Request request;
    request.prompt = "a";
    request.seed = 1;
    request.steps = 3;
    request.refiner_start = start;
    expect_fault(
        {"step"}, [&] { resolve(request, c, resolve_precision("cpu", DtypeChoice::kF32)); }, ErrorKind::kUsage);
  }
}

// ---- half precision -----------------------------------------------------------------------------------------------

// float16 overflows in this VAE's activations; force_upcast says so, and no picture is drawn in vain.
TEST(ForceUpcast, XlsVaeIsComputedInFloat) {
  const TinyCheckpoints tiny;
  const fs::path folder = tiny.folder("sdxl");
  const auto precision_of = [&](DtypeChoice dtype) {
    return Pipeline(open_checkpoint(folder), resolve_precision("cpu", dtype)).precision();
  };
  EXPECT_EQ(precision_of(DtypeChoice::kF16).vae, at::kFloat);
  EXPECT_EQ(precision_of(DtypeChoice::kF16).unet, at::kHalf);
  EXPECT_EQ(precision_of(DtypeChoice::kBF16).vae, at::kBFloat16);
  const Picture picture = draw(folder, DtypeChoice::kF16);
  EXPECT_GT(at::tensor(std::vector<int64_t>(picture.image.pixels.begin(), picture.image.pixels.end()))
                .to(at::kFloat)
                .std()
                .item<double>(),
            5.0);
  rewrite(folder / "vae/config.json", "force_upcast", false);
  EXPECT_EQ(precision_of(DtypeChoice::kF16).vae, at::kHalf);
}

}  // namespace
}  // namespace easel
