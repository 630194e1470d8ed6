// What a weights file is, by its names, shapes and metadata.
#include "weights/identify.h"

#include "weights/shape_source.h"

namespace easel {
namespace {

using namespace testing;

FileIdentity identity(Shapes shapes, Metadata metadata = {}) {
  return identify(*shape_source(std::move(shapes), std::move(metadata)));
}

Shapes below(const std::string& prefix, const Shapes& all, bool keep_prefix = true) {
  Shapes some;
  for (const auto& [name, shape] : all) {
    if (name.starts_with(prefix)) some[keep_prefix ? name : name.substr(prefix.size())] = shape;
  }
  return some;
}

Shapes with(Shapes shapes, const Shapes& more) {
  for (const auto& [name, shape] : more) shapes[name] = shape;
  return shapes;
}

struct Case {
  std::string what;
  Shapes shapes;
  Metadata metadata;
  FileKind kind;
  std::string family, title;  // the title's begin
};

const std::string kUNetPrefix = "model.diffusion_model.", kVaePrefix = "first_stage_model.";

std::vector<Case> cases() {
  using enum FileKind;
  const Shapes sd1 = single_file_shapes("sd15"), sd2 = single_file_shapes("sd2"), xl = single_file_shapes("sdxl"),
               refiner = single_file_shapes("sdxl-refiner");
  const Shapes clip = folder_shapes("sd15", "text_encoder");
  const std::string kohya = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight";
  const std::string peft = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight";
  return {
      {"SD1 checkpoint", sd1, {}, kCheckpoint, "sd1", "Stable Diffusion 1.x"},
      {"SD1 inpainting",
       single_file_shapes("sd15-inpainting"),
       {},
       kCheckpoint,
       "sd1",
       "Stable Diffusion 1.x, inpainting"},
      {"SD2 checkpoint", sd2, {}, kCheckpoint, "sd2", "Stable Diffusion 2.x"},
      {"SD2 inpainting",
       single_file_shapes("sd2-inpainting"),
       {},
       kCheckpoint,
       "sd2",
       "Stable Diffusion 2.x, inpainting"},
      {"SDXL base", xl, {}, kCheckpoint, "sdxl", "Stable Diffusion XL base"},
      {"SDXL inpainting",
       single_file_shapes("sdxl-inpainting"),
       {},
       kCheckpoint,
       "sdxl",
       "Stable Diffusion XL base, inpainting"},
      {"SDXL refiner", refiner, {}, kCheckpoint, "sdxl-refiner", "Stable Diffusion XL refiner"},
      {"SD1 with what training leaves",
       with(sd1, {{"betas", {1000}}, {"model_ema.decay", {}}}),
       {},
       kCheckpoint,
       "sd1",
       "Stable"},
      {"U-Net with LDM's prefix", below(kUNetPrefix, sd2), {}, kUNet, "sd2", "Stable Diffusion 2.x, U-Net only"},
      {"U-Net with LDM's names",
       below(kUNetPrefix, xl, false),
       {},
       kUNet,
       "sdxl",
       "Stable Diffusion XL base, U-Net only"},
      {"U-Net of a folder", folder_shapes("sd15", "unet"), {}, kUNet, "sd1", "Stable Diffusion 1.x, U-Net only"},
      {"refiner's U-Net of a folder", folder_shapes("sdxl-refiner", "unet"), {}, kUNet, "sdxl-refiner", "Stable"},
      {"pixel-space U-Net",
       {{"time_embedding.linear_1.weight", {512, 128}}, {"conv_in.weight", {128, 3, 3, 3}}},
       {},
       kUNet,
       "",
       "pixel-space DDPM"},
      {"VAE with LDM's prefix", below(kVaePrefix, sd1), {}, kVae, "", "VAE"},
      {"VAE with LDM's names", with(below(kVaePrefix, sd1, false), {{"loss.logvar", {}}}), {}, kVae, "", "VAE"},
      {"TAESD of a folder",
       {{"decoder.layers.0.weight", {64, 4, 3, 3}}, {"encoder.layers.0.weight", {64, 3, 3, 3}}},
       {},
       kVae,
       "",
       "small VAE (TAESD)"},
      {"TAESD's decoder by its author",
       {{"1.weight", {64, 16, 3, 3}}, {"3.conv.0.weight", {64, 64, 3, 3}}},
       {},
       kVae,
       "",
       "small VAE (TAESD) of 16 latent channels, decoder alone"},
      {"TAESD's encoder by its author",
       {{"0.weight", {64, 3, 3, 3}}, {"1.conv.0.weight", {64, 64, 3, 3}}},
       {},
       kVae,
       "",
       "small VAE (TAESD), encoder alone"},
      {"VAE of a folder", folder_shapes("sdxl", "vae"), {}, kVae, "", "VAE"},
      {"VAE of another family",
       {{"decoder.mid.block_1.conv1.weight", {512, 512, 3, 3}}, {"decoder.conv_in.weight", {512, 16, 3, 3}}},
       {},
       kVae,
       "",
       "VAE of 16 latent channels"},
      {"CLIP ViT-L", clip, {}, kTextEncoder, "", "text encoder (CLIP ViT-L"},
      {"CLIP without its prefix", below("text_model.", clip, false), {}, kTextEncoder, "", "text encoder (CLIP ViT-L"},
      {"OpenCLIP-H",
       below("cond_stage_model.model.", sd2, false),
       {},
       kTextEncoder,
       "",
       "text encoder (OpenCLIP ViT-H"},
      {"OpenCLIP-bigG of a folder",
       folder_shapes("sdxl", "text_encoder_2"),
       {},
       kTextEncoder,
       "",
       "text encoder (OpenCLIP ViT-bigG"},
      {"kohya's LoRA, SD1", {{kohya, {8, 768}}}, {}, kLora, "sd1", "LoRA (kohya)"},
      {"kohya's LoRA, SD2", {{kohya, {8, 1024}}}, {}, kLora, "sd2", "LoRA (kohya)"},
      {"kohya's LoRA, SDXL",
       {{"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", {4, 1280}}},
       {},
       kLora,
       "sdxl",
       "LoRA (kohya)"},
      {"kohya's LoRA, by its metadata",
       {{"lora_unet_mid_block_x.lora_down.weight", {4, 1280}}},
       {{"ss_base_model_version", "sdxl_base_v1-0"}},
       kLora,
       "sdxl",
       "LoRA (kohya)"},
      {"PEFT's LoRA", {{peft, {8, 2048}}}, {}, kLora, "sdxl", "LoRA (PEFT)"},
      {"diffusers' LoRA",
       {{"unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight", {4, 768}}},
       {},
       kLora,
       "sd1",
       "LoRA (diffusers)"},
      {"LoHa",
       {{"lora_unet_x.hada_w1_a", {4, 4}}},
       {{"modelspec.architecture", "stable-diffusion-v1/lora"}},
       kLora,
       "sd1",
       "LoHa"},
      {"LoRA of Flux",
       {{"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", {4, 3072}}},
       {},
       kLora,
       "",
       "LoRA (kohya)"},
      {"embedding, A1111's", {{"emb_params", {3, 768}}}, {}, kTextualInversion, "sd1", "textual inversion"},
      {"embedding, diffusers'", {{"<cat-toy>", {1024}}}, {}, kTextualInversion, "sd2", "textual inversion"},
      {"embedding of SDXL",
       {{"clip_g", {2, 1280}}, {"clip_l", {2, 768}}},
       {},
       kTextualInversion,
       "sdxl",
       "textual inversion"},
      {"ControlNet, LDM's",
       {{"control_model.input_hint_block.0.weight", {16, 3, 3, 3}},
        {"control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", {320, 768}}},
       {},
       kControlNet,
       "sd1",
       "ControlNet"},
      {"ControlNet, diffusers'",
       with(folder_shapes("sdxl", "unet"), {{"controlnet_cond_embedding.conv_in.weight", {16, 3, 3, 3}}}),
       {},
       kControlNet,
       "sdxl",
       "ControlNet"},
      {"Flux", {{"model.diffusion_model.double_blocks.0.img_attn.qkv.weight", {9216, 3072}}}, {}, kOther, "", "Flux"},
      {"SD3",
       {{"model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight", {4608, 1536}}},
       {},
       kOther,
       "",
       "Stable Diffusion 3"},
      {"parts without a U-Net",
       with(below(kVaePrefix, sd1), below("cond_stage", sd1)),
       {},
       kOther,
       "sd1",
       "a checkpoint without its U-Net"},
      {"something else", {{"a", {2, 3}}}, {}, kOther, "", "no kind of file"},
      {"nothing", {}, {}, kOther, "", "no kind of file"},
  };
}

TEST(Identify, KindsOfFiles) {
  for (const Case& c : cases()) {
    const FileIdentity id = identity(c.shapes, c.metadata);
    EXPECT_EQ(static_cast<int>(id.kind), static_cast<int>(c.kind)) << c.what;
    EXPECT_EQ(id.family, c.family) << c.what;
    EXPECT_TRUE(id.title.starts_with(c.title)) << c.what << ": " << id.title;
  }
}

// Every row is reached by the names it is about, whatever the rows before it.
TEST(Identify, EveryRowOfTheTable) {
  for (const KindRow& row : kind_table()) {
    Shapes shapes;
    for (std::string name : row.all_of) {
      for (std::size_t star = 0; (star = name.find('*')) != std::string::npos;) name.replace(star, 1, "x.");
      shapes[name] = {2, 2};
    }
    EXPECT_EQ(identity(shapes).title, row.title) << row.all_of.front();
    EXPECT_EQ(static_cast<int>(identity(shapes).kind), static_cast<int>(row.kind)) << row.title;
  }
}

TEST(Identify, EveryFormOfAPart) {
  for (const PartRow& row : part_table()) {
    const FileIdentity id = identity({{row.part.prefix + row.clue, {2, 2}}});
    ASSERT_EQ(id.parts.size(), 1u) << row.part.prefix << row.clue;
    EXPECT_EQ(id.parts[0].name, row.part.name);
    EXPECT_EQ(id.parts[0].prefix, row.part.prefix);
    EXPECT_EQ(id.parts[0].naming, row.part.naming);
    EXPECT_EQ(id.kind == FileKind::kTextEncoder ? "" : id.family, "");
  }
}

TEST(Identify, EverySpecIsThere) {
  for (const SpecRow& row : spec_table()) EXPECT_TRUE(spec_config(row.spec, "unet").is_object()) << row.spec;
  for (const FamilyNames& row : family_names()) EXPECT_GE(single_file_parts(row.family).size(), 3u) << row.family;
}

// ---- prediction type
// -------------------------------------------------------------------------------------------------

struct Said {
  std::string prediction, spec;
  bool assumed, zero_snr;
  bool operator==(const Said&) const = default;
};

Said said(Shapes shapes, Metadata metadata = {}) {
  const FileIdentity id = identity(std::move(shapes), std::move(metadata));
  return {id.prediction, id.spec, id.prediction_assumed, id.zero_snr};
}

TEST(Identify, PredictionType) {
  const Shapes sd2 = single_file_shapes("sd2"), xl = single_file_shapes("sdxl");
  EXPECT_EQ(said(single_file_shapes("sd15")), (Said{"eps", "sd15", false, false}));
  EXPECT_EQ(said(xl), (Said{"eps", "sdxl", false, false}));
  EXPECT_EQ(said(with(xl, {{"v_pred", {0}}})), (Said{"v", "sdxl", false, false}));
  EXPECT_EQ(said(with(xl, {{"v_pred", {0}}, {"ztsnr", {0}}})), (Said{"v", "sdxl", false, true}));
  EXPECT_EQ(said(sd2), (Said{"v", "sd2", true, false}));
  EXPECT_EQ(said(with(sd2, {{"v_pred", {0}}})), (Said{"v", "sd2", false, false}));
  EXPECT_EQ(said(sd2, {{"global_step", "875000"}}), (Said{"eps", "sd2-base", false, false}));
  EXPECT_EQ(said(sd2, {{"global_step", "140000"}}), (Said{"v", "sd2", true, false}));
  EXPECT_EQ(said(with(sd2, {{"v_pred", {0}}}), {{"global_step", "875000"}}), (Said{"v", "sd2", false, false}));
  EXPECT_EQ(said(sd2, {{"modelspec.prediction_type", "epsilon"}}), (Said{"eps", "sd2-base", false, false}));
  EXPECT_EQ(said(sd2, {{kConfigsKey, R"({"scheduler": {}})"}}), (Said{"eps", "sd2-base", false, false}));
  EXPECT_EQ(said(single_file_shapes("sd15"), {{kConfigsKey, R"({"scheduler": {"prediction_type": "v_prediction"}})"}}),
            (Said{"v", "sd15", false, false}));
  EXPECT_EQ(said(single_file_shapes("sd2-inpainting")), (Said{"eps", "sd2-inpainting", false, false}));
}

TEST(Identify, TheStepIsAlsoATensor) {
  const Folder folder;
  const auto prediction = [&](const Tensor& step) {
    write_safetensors(folder / "x", {{"cond_stage_model.model.ln_final.weight", at::ones(2)},
                                     {"model.diffusion_model.input_blocks.0.0.weight", at::ones({2, 4, 1, 1})},
                                     {"global_step", step}});
    return identify(*open_safetensors(folder / "x")).prediction;
  };
  EXPECT_EQ(prediction(at::scalar_tensor(875000, at::kLong)), "eps");
  EXPECT_EQ(prediction(at::scalar_tensor(875000, at::kFloat)), "eps");
  EXPECT_EQ(prediction(at::scalar_tensor(110000, at::kLong)), "v");
  EXPECT_EQ(prediction(at::full({2}, 875000)), "v") << "no number";
}

TEST(Identify, PrunedModels) {
  const auto pruned = [](int depth, bool middle) {
    Shapes shapes = {{"conditioner.embedders.1.model.ln_final.weight", {1280}},
                     {kUNetPrefix + "input_blocks.0.0.weight", {320, 4, 3, 3}}};
    for (int i = 0; i < depth; ++i)
      shapes[kUNetPrefix + "input_blocks.7.1.transformer_blocks." + std::to_string(i) + ".norm1.weight"] = {1280};
    if (middle) shapes[kUNetPrefix + "middle_block.1.norm.weight"] = {1280};
    return identity(shapes).spec;
  };
  EXPECT_EQ(pruned(10, true), "sdxl");
  EXPECT_EQ(pruned(4, false), "ssd-1b");
  EXPECT_EQ(pruned(2, false), "segmind-vega");
  EXPECT_EQ(pruned(3, false), "") << "no published config";
}

TEST(Identify, Metadata) {
  const Folder folder;
  write_safetensors(folder / "x", *tensor_source({{"a", at::ones(1)}}, "x"), {}, {{"b", "c \"d\""}});
  EXPECT_EQ(open_safetensors(folder / "x")->metadata(), (Metadata{{"b", "c \"d\""}, {"format", "pt"}}));
  EXPECT_EQ(embedded_configs(*open_safetensors(folder / "x")), std::nullopt);
  for (const char* wrong : {"", "[]", "{\"unet\": 1}", "{"})
    expect_has(message([&] {
                 embedded_configs(*shape_source({}, {{kConfigsKey, wrong}}));
               }),
               "expected an object of configs");
}

}  // namespace
}  // namespace easel
