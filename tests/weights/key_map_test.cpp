// The names of SD1.x single files against the reference's list (tests/data/golden/keys.sd15.ldm.json).
#include "weights/files.h"

namespace easel {
namespace {

using namespace testing;

json read_json(const fs::path& file) { return json::parse(std::ifstream(file)); }

json spec(const std::string& part) {
  return read_json(fs::path(EASEL_SOURCE_DIR) / "models/specs/sd15" / (part + ".json"));
}

TEST(LdmKey, EqualsTheReferenceAndIsOneToOne) {
  const json rows = read_json(fs::path(EASEL_TEST_DATA) / "golden/keys.sd15.ldm.json");
  std::map<std::string, json> configs;
  std::map<std::string, int> count;
  std::set<std::string> seen;
  for (const json& row : rows) {
    const auto ldm = row.at(0).get<std::string>(), part = row.at(1).get<std::string>(),
               ours = row.at(2).get<std::string>();
    if (!configs.contains(part)) configs[part] = spec(part);
    EXPECT_EQ(ldm_key(part, ours, configs.at(part)), ldm);
    EXPECT_TRUE(seen.insert(ldm_key(part, ours, configs.at(part))).second) << ldm;
    EXPECT_FALSE(is_known_extra(ldm)) << ldm;
    EXPECT_FALSE(is_known_extra(ours)) << ours;
    ++count[part];
  }
  EXPECT_EQ(count, (std::map<std::string, int>{{"text_encoder", 196}, {"unet", 686}, {"vae", 248}}));
}

// Every key of the reference's own list has a row above.
TEST(LdmKey, CoversEveryKey) {
  std::set<std::string> mapped;
  for (const json& row : read_json(fs::path(EASEL_TEST_DATA) / "golden/keys.sd15.ldm.json"))
    mapped.insert(row.at(1).get<std::string>() + "/" + row.at(2).get<std::string>());
  std::size_t keys = 0;
  const json parts = read_json(fs::path(EASEL_TEST_DATA) / "golden/keys.sd15.json");
  for (const auto& [part, shapes] : parts.items()) {
    for (const auto& [key, shape] : shapes.items()) {
      EXPECT_TRUE(mapped.contains(part + "/" + key)) << part << "/" << key;
      ++keys;
    }
  }
  EXPECT_EQ(keys, mapped.size());
}

TEST(LdmKey, BlockNumbersFollowTheConfig) {
  const json unet = {{"layers_per_block", 1}, {"up_block_types", {"UpBlock2D", "CrossAttnUpBlock2D"}}};
  const std::string root = "model.diffusion_model.";
  EXPECT_EQ(ldm_key("unet", "down_blocks.1.resnets.0.conv1.bias", unet), root + "input_blocks.3.0.in_layers.2.bias");
  EXPECT_EQ(ldm_key("unet", "down_blocks.0.downsamplers.0.conv.weight", unet), root + "input_blocks.2.0.op.weight");
  EXPECT_EQ(ldm_key("unet", "up_blocks.0.upsamplers.0.conv.weight", unet), root + "output_blocks.1.1.conv.weight");
  EXPECT_EQ(ldm_key("unet", "up_blocks.1.attentions.1.proj_in.weight", unet),
            root + "output_blocks.3.1.proj_in.weight");
  const json vae = {{"block_out_channels", {8, 16}}};
  EXPECT_EQ(ldm_key("vae", "decoder.up_blocks.0.resnets.2.conv_shortcut.weight", vae),
            "first_stage_model.decoder.up.1.block.2.nin_shortcut.weight");
}

TEST(LdmKey, AnUnknownNameIsNotGuessed) {
  const json unet = spec("unet"), vae = spec("vae");
  for (const char* key : {"down_blocks.0.resnets.0.conv3.weight", "add_embedding.linear_1.weight", "weight"})
    EXPECT_THROW(ldm_key("unet", key, unet), c10::Error) << key;
  for (const char* key : {"decoder.mid_block.attentions.0.to_x.weight", "decoder.up_blocks.0.resnets.0.conv3.weight"})
    EXPECT_THROW(ldm_key("vae", key, vae), c10::Error) << key;
  EXPECT_THROW(ldm_key("safety_checker", "a.weight", unet), c10::Error);
}

TEST(KnownExtra, WhatPublishedFilesCarry) {
  for (const char* name : {"betas",
                           "alphas_cumprod",
                           "alphas_cumprod_prev",
                           "sqrt_alphas_cumprod",
                           "sqrt_one_minus_alphas_cumprod",
                           "log_one_minus_alphas_cumprod",
                           "sqrt_recip_alphas_cumprod",
                           "sqrt_recipm1_alphas_cumprod",
                           "posterior_variance",
                           "posterior_log_variance_clipped",
                           "posterior_mean_coef1",
                           "posterior_mean_coef2",
                           "denoiser.sigmas",
                           "model_ema.decay",
                           "model_ema.num_updates",
                           "model_ema.diffusion_modelinput_blocks00weight",
                           "cond_stage_model.logit_scale",
                           "cond_stage_model.transformer.text_model.embeddings.position_ids",
                           "embeddings.position_ids",
                           "text_model.embeddings.position_ids",
                           "logit_scale",
                           "text_projection",
                           "text_projection.weight"})
    EXPECT_TRUE(is_known_extra(name)) << name;
  for (const char* name : {"", "beta", "model_ema", "my_betas", "model.diffusion_model.betas", "position_ids_2",
                           "xposition_ids", "control_model.input_blocks.0.0.weight", "lora_unet_x", "conv_in.weight"})
    EXPECT_FALSE(is_known_extra(name)) << name;
}

}  // namespace
}  // namespace easel
