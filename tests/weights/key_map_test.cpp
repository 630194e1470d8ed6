// Renaming between the layouts, for every full-size model, against the reference's names, shapes and pairs
// (tests/data/golden/keys.SPEC.tsv.gz).
#include "weights/key_map.h"

#include "weights/shape_source.h"

namespace easel {
namespace {

using namespace testing;

// What differs, for a message of readable length.
std::string difference(const Shapes& got, const Shapes& want) {
  std::string text;
  for (const auto& [name, shape] : want) {
    const auto found = got.find(name);
    if (found == got.end() || found->second != shape) text += "\n  want " + name + " " + to_string(shape);
    if (text.size() > 2000) return text;
  }
  for (const auto& [name, shape] : got) {
    if (!want.contains(name)) text += "\n  got " + name + " " + to_string(shape);
    if (text.size() > 2000) return text;
  }
  return text;
}

TEST(Layouts, SingleFileToFolderAtFullSize) {
  for (const std::string& spec : listed_specs()) {
    const SourcePtr file = shape_source(single_file_shapes(spec));
    const FileIdentity id = identify(*file);
    ASSERT_EQ(id.spec, spec == "sd2" ? "sd2" : spec);
    std::set<std::string> parts;
    for (const KeyRow& row : key_rows(spec)) parts.insert(row.part);
    ASSERT_EQ(id.parts.size(), parts.size()) << spec;
    for (const std::string& part : parts) {
      ASSERT_TRUE(id.part(part)) << spec << " " << part;
      const SourcePtr view = as_diffusers(file, *id.part(part), spec_config(spec, part));
      EXPECT_EQ(difference(shapes_of(*view), folder_shapes(spec, part)), "") << spec << " " << part;
      for (const KeyRow& row : key_rows(spec)) {
        if (row.part != part) continue;
        EXPECT_EQ(view->stored_name(row.ours), row.theirs);
      }
    }
  }
}

TEST(Layouts, FolderToSingleFileAtFullSize) {
  for (const std::string& spec : listed_specs()) {
    std::vector<SourcePtr> parts;
    for (const FilePart& part : single_file_parts(identify(*shape_source(single_file_shapes(spec))).family))
      parts.push_back(as_single_file(shape_source(folder_shapes(spec, part.name)), part, spec_config(spec, part.name)));
    EXPECT_EQ(difference(shapes_of(*joined(parts)), single_file_shapes(spec)), "") << spec;
  }
}

TEST(Layouts, AControlNetAtFullSize) {
  const SourcePtr file = shape_source(single_file_shapes("sd15-controlnet"));
  const FileIdentity id = identify(*file);
  EXPECT_EQ(id.kind, FileKind::kControlNet);
  EXPECT_EQ(id.family, "sd1");
  const FilePart* part = id.part("controlnet");
  ASSERT_TRUE(part);
  EXPECT_EQ(part->prefix, "control_model.");
  json config = spec_config("sd15", "unet");
  config["conditioning_embedding_out_channels"] = {16, 32, 96, 256};
  const Shapes folder = folder_shapes("sd15-controlnet", "controlnet");
  EXPECT_EQ(folder.size(), 340u);
  const SourcePtr view = as_diffusers(file, *part, config);
  EXPECT_EQ(difference(shapes_of(*view), folder), "");
  for (const KeyRow& row : key_rows("sd15-controlnet")) EXPECT_EQ(view->stored_name(row.ours), row.theirs);
  EXPECT_EQ(difference(shapes_of(*as_single_file(shape_source(folder), *part, config)),
                       single_file_shapes("sd15-controlnet")),
            "");
}

TEST(Layouts, TheNumbersOfKeys) {
  const auto count = [](const std::string& spec, const std::string& part) { return folder_shapes(spec, part).size(); };
  EXPECT_EQ(count("sd15", "unet"), 686u);
  EXPECT_EQ(count("sd2", "unet"), 686u);
  EXPECT_EQ(count("sdxl", "unet"), 1680u);
  EXPECT_EQ(count("sdxl-refiner", "unet"), 1220u);
  EXPECT_EQ(count("sd2", "text_encoder"), 372u);
  EXPECT_EQ(count("sdxl", "text_encoder_2"), 517u);
  for (const std::string& spec : listed_specs()) EXPECT_EQ(count(spec, "vae"), 248u);
}

TEST(Layouts, WhatNetworksReadIsNoKnownExtra) {
  for (const std::string& spec : listed_specs()) {
    for (const KeyRow& row : key_rows(spec)) {
      const bool projection = row.ours == "text_projection.weight";  // only SDXL's networks read it
      EXPECT_EQ(is_known_extra(row.theirs), projection) << row.theirs;
      EXPECT_EQ(is_known_extra(row.ours), projection) << row.ours;
    }
  }
}

// ---- values
// ----------------------------------------------------------------------------------------------------------

constexpr const char* kLayer = "text_model.encoder.layers.0.self_attn.";
const FilePart kOpenClip = {"text_encoder_2", "conditioner.embedders.0.model.", Naming::kOpenClip};

Named open_clip_tensors() {
  Named tensors = {{"text_projection.weight", at::arange(6, at::kFloat).view({2, 3})}};
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
    const double first = 100 * name[0];
    tensors.emplace_back(kLayer + std::string(name) + ".weight", at::arange(first, first + 4, at::kFloat).view({2, 2}));
    tensors.emplace_back(kLayer + std::string(name) + ".bias", at::arange(first, first + 2, at::kFloat));
  }
  return tensors;
}

TEST(Layouts, OpenClipsTensorsAreSplitAndStacked) {
  const Named tensors = open_clip_tensors();
  const SourcePtr stored = as_single_file(tensor_source(tensors, "folder"), kOpenClip, {});
  const std::string block = kOpenClip.prefix + "transformer.resblocks.0.attn.in_proj_";
  EXPECT_EQ(stored->names(),
            (std::vector<std::string>{kOpenClip.prefix + "text_projection", block + "bias", block + "weight"}));
  const auto of = [&](const char* name) { return tensor_source(tensors, "")->load(kLayer + std::string(name)); };
  EXPECT_TRUE(at::equal(stored->load(block + "weight"),
                        at::cat({of("q_proj.weight"), of("k_proj.weight"), of("v_proj.weight")})));
  EXPECT_TRUE(
      at::equal(stored->load(kOpenClip.prefix + "text_projection"), at::arange(6, at::kFloat).view({2, 3}).t()));

  Named in_memory;
  for (const std::string& name : stored->names()) in_memory.emplace_back(name, stored->load(name));
  const SourcePtr file = tensor_source(in_memory, "file"), back = as_diffusers(file, kOpenClip, {});
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(at::equal(back->load(name), tensor)) << name;
    EXPECT_EQ(back->load(name).is_alias_of(file->load(back->stored_name(name))), name != "text_projection.weight")
        << name << ": split without a copy";
  }
  EXPECT_EQ(back->names().size(), tensors.size());
}

TEST(Layouts, ProjectionsThatCannotBeStackedAreNamed) {
  for (const int missing : {3, 5}) {  // k and v
    Named tensors = open_clip_tensors();
    tensors.erase(tensors.begin() + missing);
    expect_has(message([&] { as_single_file(tensor_source(tensors, "x"), kOpenClip, {}); }), "they are stored as one");
  }
  Named tensors = open_clip_tensors();
  tensors[3].second = tensors[3].second.to(at::kHalf);
  expect_has(message([&] { as_single_file(tensor_source(tensors, "x"), kOpenClip, {}); }), "does not go with");
}

TEST(Layouts, AStackThatDoesNotDivideIsLeftAsItIs) {
  const std::string name = kOpenClip.prefix + "transformer.resblocks.0.attn.in_proj_weight";
  const SourcePtr view = as_diffusers(tensor_source({{name, at::ones({4, 2})}}, "file"), kOpenClip, {});
  EXPECT_EQ(view->names(), std::vector<std::string>{name});
}

const FilePart kVae = {"vae", "first_stage_model.", Naming::kLdm};

// Linear layers are stored as 1x1 convolutions; older folders have other names for them.
TEST(Layouts, TheVaesAttention) {
  const json config = {{"block_out_channels", {8, 16}}, {"layers_per_block", 1}};
  const Tensor q = at::rand({4, 4});
  for (const char* name : {"to_q", "query"}) {
    const SourcePtr stored = as_single_file(
        tensor_source({{"encoder.mid_block.attentions.0." + std::string(name) + ".weight", q}}, "folder"), kVae,
        config);
    ASSERT_EQ(stored->names(), std::vector<std::string>{"first_stage_model.encoder.mid.attn_1.q.weight"});
    EXPECT_TRUE(at::equal(stored->load(stored->names()[0]), q.view({4, 4, 1, 1})));
    const SourcePtr back = as_diffusers(stored, kVae, config);
    EXPECT_TRUE(at::equal(back->load("encoder.mid_block.attentions.0.to_q.weight"), q));
  }
  const Named both = {{"encoder.mid_block.attentions.0.query.weight", q},
                      {"encoder.mid_block.attentions.0.to_q.weight", q}};
  expect_has(message([&] { as_single_file(tensor_source(both, "x"), kVae, config); }), "is there under two names");
}

TEST(Layouts, TextEncodersWithoutTheirPrefix) {
  const FilePart clip = {"text_encoder", "cond_stage_model.transformer.", Naming::kDiffusers};
  const SourcePtr stored = as_single_file(tensor_source({{"final_layer_norm.bias", at::ones(2)}}, "x"), clip, {});
  EXPECT_EQ(stored->names(), std::vector<std::string>{"cond_stage_model.transformer.text_model.final_layer_norm.bias"});
}

// ---- the maps
// --------------------------------------------------------------------------------------------------------

TEST(KeyMap, BlockNumbersFollowTheConfig) {
  const json unet = {{"layers_per_block", {1, 2}},
                     {"block_out_channels", {8, 16}},
                     {"down_block_types", {"CrossAttnDownBlock2D", "DownBlock2D"}},
                     {"up_block_types", {"UpBlock2D", "CrossAttnUpBlock2D"}}};
  const KeyMap map = KeyMap::unet(unet);
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"down_blocks.1.resnets.1.conv1.bias", "input_blocks.4.0.in_layers.2.bias"},
      {"down_blocks.0.downsamplers.0.conv.weight", "input_blocks.2.0.op.weight"},
      {"up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight"},
      {"up_blocks.1.attentions.1.proj_in.weight", "output_blocks.4.1.proj_in.weight"}};
  for (const auto& [ours, theirs] : pairs) {
    EXPECT_EQ(map.theirs(ours), theirs);
    EXPECT_EQ(map.ours(theirs), ours);
  }
  const KeyMap vae = KeyMap::vae({{"block_out_channels", {8, 16}}, {"layers_per_block", 2}});
  EXPECT_EQ(vae.theirs("decoder.up_blocks.0.resnets.2.conv_shortcut.weight"),
            "decoder.up.1.block.2.nin_shortcut.weight");
}

TEST(KeyMap, AnUnknownNameIsNotGuessed) {
  const KeyMap unet = KeyMap::unet(spec_config("sd15", "unet")), vae = KeyMap::vae(spec_config("sd15", "vae"));
  for (const char* ours : {"down_blocks.0.resnets.0.conv3.weight", "add_embedding.linear_1.weight", "weight", "",
                           "down_blocks.0.resnets.0", "down_blocks.0.resnets.2.conv1.weight"})
    EXPECT_EQ(unet.theirs(ours), std::nullopt) << ours;
  for (const char* theirs : {"input_blocks.1.0.in_layers.1.weight", "label_emb.0.0.weight", "input_blocks.1.0", ""})
    EXPECT_EQ(unet.ours(theirs), std::nullopt) << theirs;
  for (const char* ours : {"decoder.mid_block.attentions.0.to_x.weight", "decoder.up_blocks.0.resnets.0.conv3.weight"})
    EXPECT_EQ(vae.theirs(ours), std::nullopt) << ours;
  const Named strange = {{"decoder.nobody.weight", at::ones(1)}};
  expect_has(message([&] { as_single_file(tensor_source(strange, "folder"), kVae, spec_config("sd15", "vae")); }),
             "folder: tensor decoder.nobody.weight has no name in a single file");
  EXPECT_THROW(KeyMap::unet({{"block_out_channels", {8}}}), Error);
}

TEST(KnownExtra, WhatPublishedFilesCarry) {
  for (const char* name :
       {"betas", "alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_log_variance_clipped", "denoiser.sigmas",
        "model_ema.decay", "model_ema.diffusion_modelinput_blocks00weight", "loss.discriminator.main.0.weight",
        "v_pred", "ztsnr", "global_step", "cond_stage_model.logit_scale",
        "cond_stage_model.transformer.text_model.embeddings.position_ids", "embeddings.position_ids", "logit_scale",
        "text_projection", "text_projection.weight"})
    EXPECT_TRUE(is_known_extra(name)) << name;
  for (const char* name : {"", "beta", "model_ema", "my_betas", "model.diffusion_model.betas", "position_ids_2",
                           "xposition_ids", "control_model.input_blocks.0.0.weight", "lora_unet_x", "conv_in.weight"})
    EXPECT_FALSE(is_known_extra(name)) << name;
}

}  // namespace
}  // namespace easel
