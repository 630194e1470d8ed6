// Every form a checkpoint is published in gives the picture of the plain one; what cannot be opened says why.
#include <cstdlib>

#include "easel/pipeline.h"
#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;
const Picture& plain() {
  static const TinyCheckpoints tiny;
  static const Picture picture = draw(tiny.folder("sd1"));
  return picture;
}

void expect_plain(const fs::path& model) { expect_same(draw(model), plain()); }

// ---- folders ------------------------------------------------------------------------------------------------------

using Rename = std::function<std::string(const std::string&)>;

Tensors renamed_tensors(Tensors tensors, const Rename& rename) {
  for (auto& [name, tensor] : tensors) name = rename(name);
  return tensors;
}

// A folder of `sd1` in which one part is written by `write(part folder, tensors)`.
fs::path with_part(const TinyCheckpoints& tiny, const std::string& part,
                   const std::function<void(const fs::path&, Tensors)>& write) {
  const fs::path made = tiny.folder("sd1");
  fs::remove(made / part / (stem_of(part) + ".safetensors"));
  write(made / part, part_tensors("sd1", part));
  return made;
}

TEST(Folder, TextEncoderWithoutPrefix) {
  const TinyCheckpoints tiny;
  expect_plain(with_part(tiny, "text_encoder", [](const fs::path& folder, Tensors tensors) {
    write_safetensors(folder / "model.safetensors", renamed_tensors(std::move(tensors), [](const std::string& name) {
                        return name.substr(std::string("text_model.").size());
                      }));
  }));
}

TEST(Folder, TextEncoderWithPositionIds) {
  for (const at::ScalarType dtype : {at::kLong, at::kFloat}) {
    const TinyCheckpoints tiny;
    expect_plain(with_part(tiny, "text_encoder", [&](const fs::path& folder, Tensors tensors) {
      tensors.emplace_back("text_model.embeddings.position_ids", at::arange(77, dtype).unsqueeze(0));
      write_safetensors(folder / "model.safetensors", tensors);
    }));
  }
}

TEST(Folder, Sharded) {
  const TinyCheckpoints tiny;
  expect_plain(with_part(tiny, "unet", [](const fs::path& folder, Tensors tensors) {
    json map;
    const std::string stem = "diffusion_pytorch_model-0000";
    Tensors halves[2];
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      map[tensors[i].first] = stem + std::to_string(i % 2 + 1) + "-of-00002.safetensors";
      halves[i % 2].push_back(tensors[i]);
    }
    for (int i = 0; i < 2; ++i)
      write_safetensors(folder / (stem + std::to_string(i + 1) + "-of-00002.safetensors"), halves[i]);
    std::ofstream(folder / "diffusion_pytorch_model.safetensors.index.json")
        << json{{"metadata", {{"total_size", 1}}}, {"weight_map", map}};
  }));
}

TEST(Folder, OldAttentionNamesInTheVae) {
  const TinyCheckpoints tiny;
  expect_plain(with_part(tiny, "vae", [](const fs::path& folder, Tensors tensors) {
    write_safetensors(folder / "diffusion_pytorch_model.safetensors",
                      renamed_tensors(std::move(tensors), [](std::string name) {
                        for (const auto& [now, then] : {std::pair{".to_q.", ".query."},
                                                        {".to_k.", ".key."},
                                                        {".to_v.", ".value."},
                                                        {".to_out.0.", ".proj_attn."}}) {
                          const auto at = name.find(now);
                          if (at != std::string::npos) name.replace(at, std::string(now).size(), then);
                        }
                        return name;
                      }));
  }));
}

TEST(Folder, CompanionsThatAreNotUsed) {
  const TinyCheckpoints tiny;
  const fs::path folder = tiny.folder("sd1");
  fs::create_directories(folder / "safety_checker");
  fs::create_directories(folder / "feature_extractor");
  std::ofstream(folder / "unet/diffusion_pytorch_model.non_ema.safetensors") << "not looked at";
  std::ofstream(folder / "unet/diffusion_pytorch_model.bin") << "not looked at";
  expect_plain(folder);
}

// Weights stored in half precision and read in float32 are those rounded numbers.
TEST(Folder, StoredInHalfPrecision) {
  for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16}) {
    const TinyCheckpoints tiny;
    const fs::path half = tiny.root() / "half", full = tiny.root() / "full";
    for (const auto& [folder, stored] : {std::pair{half, dtype}, {full, at::kFloat}}) {
      TinyCheckpoints::write_configs("sd1", folder);
      for (const std::string part : {"text_encoder", "unet", "vae"}) {
        Tensors tensors = part_tensors("sd1", part, dtype);
        for (auto& [name, tensor] : tensors) tensor = tensor.to(stored);
        write_safetensors(folder / part / (stem_of(part) + ".safetensors"), tensors);
      }
    }
    expect_same(draw(half), draw(full));
  }
}

TEST(Folder, Fp16VariantAloneAndBesideTheFullOne) {
  const TinyCheckpoints tiny;
  const fs::path folder = tiny.folder("sd1");
  const auto variant = [&](const std::string& part) { return folder / part / (stem_of(part) + ".fp16.safetensors"); };
  for (const std::string part : {"text_encoder", "unet", "vae"})
    write_safetensors(variant(part), part_tensors("sd1", part, at::kHalf));
  expect_plain(folder);  // f32 reads the full files
  const Picture beside = draw(folder, DtypeChoice::kF16);
  for (const std::string part : {"text_encoder", "unet", "vae"})
    fs::remove(folder / part / (stem_of(part) + ".safetensors"));
  EXPECT_TRUE(at::equal(draw(folder, DtypeChoice::kF16).latent, beside.latent));
  const double apart = relative_difference(draw(folder).latent, plain().latent);
  EXPECT_GT(apart, 0);  // rounded weights
  EXPECT_LT(apart, 0.2);
}

// ---- faults -------------------------------------------------------------------------------------------------------

TEST(Checkpoint, WhatIsNotThere) {
  const TinyCheckpoints tiny;
  expect_fault({"no model at", "nowhere", "-m takes"}, [&] { open_checkpoint(tiny.root() / "nowhere"); });
  expect_fault({"no model_index.json"}, [&] { open_checkpoint(tiny.root()); });
  for (const char* file :
       {"unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"}) {
    const fs::path folder = tiny.folder("sd1");
    fs::rename(folder / file, folder / "away");
    expect_fault({file, "No such file"}, [&] { open_checkpoint(folder); });
    fs::rename(folder / "away", folder / file);
  }
}

TEST(Checkpoint, FamiliesAndPartsThatDoNotFit) {
  const auto changed = [](const char* file, const std::string& field, const json& value) {
    return [=] {
      const TinyCheckpoints tiny;
      rewrite(tiny.folder("sd1") / file, field, value);
      open_checkpoint(tiny.folder("sd1"));
    };
  };
  expect_fault({"FluxPipeline", "not supported", "Stable Diffusion 1.x"},
               changed("model_index.json", "_class_name", "FluxPipeline"));
  expect_fault({"_class_name is missing"}, changed("model_index.json", "_class_name", nullptr));
  expect_fault({"in_channels is 5"}, changed("unet/config.json", "in_channels", 5));
  expect_fault({"hidden_size is 32", "cross_attention_dim is 48"},
               changed("unet/config.json", "cross_attention_dim", 48));
  expect_fault({"latent_channels is 8"}, changed("vae/config.json", "latent_channels", 8));
  expect_fault({"prediction_type"}, changed("scheduler/scheduler_config.json", "prediction_type", "flow"));
}

TEST(Checkpoint, FaultsOfSeveralConfigsAtOnce) {
  const TinyCheckpoints tiny;
  const fs::path folder = tiny.folder("sd1");
  rewrite(folder / "unet/config.json", "act_fn", "gelu");
  rewrite(folder / "vae/config.json", "act_fn", "gelu");
  std::ofstream(folder / "text_encoder/config.json") << "{";
  expect_fault({"unet/config.json: act_fn", "vae/config.json: act_fn", "text_encoder/config.json: not JSON"},
               [&] { open_checkpoint(folder); });
}

TEST(Checkpoint, TensorsOfAllPartsAreNamedAtOnce) {
  const TinyCheckpoints tiny;
  const fs::path folder = with_part(tiny, "unet", [](const fs::path& made, Tensors tensors) {
    std::erase_if(tensors, [](const auto& entry) { return entry.first == "conv_in.bias"; });
    tensors.emplace_back("conv_in.extra", at::ones({2}));
    write_safetensors(made / "diffusion_pytorch_model.safetensors", tensors);
  });
  const fs::path vae = folder / "vae/diffusion_pytorch_model.safetensors";
  Tensors tensors = part_tensors("sd1", "vae");
  for (auto& [name, tensor] : tensors) {
    if (name == "encoder.conv_in.weight") tensor = at::zeros({32, 4, 3, 3});
  }
  write_safetensors(vae, tensors);
  expect_fault({"conv_in.bias", "conv_in.extra", "encoder.conv_in.weight", "[32, 4, 3, 3]", "[32, 3, 3, 3]"},
               [&] { draw(folder); });
}

TEST(Checkpoint, NanWeightsAreNamed) {
  const TinyCheckpoints tiny;
  const fs::path folder = with_part(tiny, "unet", [](const fs::path& made, Tensors tensors) {
    for (auto& [name, tensor] : tensors) {
      if (name == "mid_block.resnets.0.conv1.weight") tensor[1][2][0][0] = NAN;
    }
    write_safetensors(made / "diffusion_pytorch_model.safetensors", tensors);
  });
  expect_fault({"mid_block.resnets.0.conv1.weight", "finite"}, [&] { draw(folder); });
}

TEST(Checkpoint, VocabularyLargerThanTheEmbedding) {
  const TinyCheckpoints tiny;
  const fs::path folder = with_part(tiny, "text_encoder", [](const fs::path& made, Tensors tensors) {
    for (auto& [name, tensor] : tensors) {
      if (name.ends_with("token_embedding.weight")) tensor = tensor.narrow(0, 0, 49000).contiguous();
    }
    write_safetensors(made / "model.safetensors", tensors);
  });
  rewrite(folder / "text_encoder/config.json", "vocab_size", 49000);
  expect_fault({"49408 tokens", "49000"}, [&] { draw(folder); });
}

// ---- values that overflow -----------------------------------------------------------------------------------------

TEST(Picture, HalfPrecisionOverflowIsRetriedInFloat) {
  const TinyCheckpoints tiny;
  const fs::path folder = with_part(tiny, "vae", [](const fs::path& made, Tensors tensors) {
    for (auto& [name, tensor] : tensors) {  // beyond float16 inside, and back in range at the end
      if (name == "decoder.conv_norm_out.weight" || name == "decoder.conv_norm_out.bias") tensor = tensor * 2e4;
      if (name == "decoder.conv_out.weight") tensor = tensor / 2e4;
    }
    write_safetensors(made / "diffusion_pytorch_model.safetensors", tensors);
  });
  const Picture picture = draw(folder, DtypeChoice::kF16);
  EXPECT_EQ(picture.precision.vae, at::kFloat);
  EXPECT_EQ(picture.precision.unet, at::kHalf);
}

TEST(Picture, OverflowInFloatIsAFault) {
  const TinyCheckpoints tiny;
  const fs::path folder = with_part(tiny, "vae", [](const fs::path& made, Tensors tensors) {
    for (auto& [name, tensor] : tensors) {
      if (name.find("conv_norm_out.weight") != std::string::npos || name == "decoder.conv_out.weight")
        tensor = tensor * 1e30;
    }
    write_safetensors(made / "diffusion_pytorch_model.safetensors", tensors);
  });
  expect_fault(
      {"the VAE", "not finite"}, [&] { draw(folder); }, ErrorKind::kPicture);
}

// ---- resolving ----------------------------------------------------------------------------------------------------

TEST(Resolve, FillsEveryField) {
  const TinyCheckpoints tiny;
  const Request r = resolved(tiny.folder("sd1"), [](Request&) {});
  EXPECT_EQ(to_json(r).dump(),
            R"({"prompt":"a","width":128,"height":128,"seed":1,"steps":20,"cfg_scale":7.5,"cfg_rescale":0.0,)"
            R"("cfg_start":0.0,"cfg_end":1.0,"sampler":"pndm","scheduler":"model","prediction":"eps",)"
            R"("clip_skip":1,"model":"easel-tiny","device":"cpu","dtype":"f32","prompt_syntax":"a1111",)"
            R"("prompt_weighting":"a1111"})");
  EXPECT_EQ(*resolved(tiny.folder("sd1"), [](Request& q) { q.sampler = "DDIM"; }).eta, 0.0);
  EXPECT_EQ(*resolved(tiny.folder("sd1-odd"), [](Request&) {}).width, 40);  // sample_size [12, 20], factor 2
  EXPECT_EQ(*resolved(tiny.folder("sd1-odd"), [](Request&) {}).height, 24);
  EXPECT_EQ(*resolved(tiny.folder("sd1-linear"), [](Request&) {}).prediction, "v");
}

TEST(Resolve, TheModelsOwnDefaultsComeBeforeTheFamilys) {
  const TinyCheckpoints tiny;
  const fs::path folder = tiny.folder("sd1");
  std::ofstream(folder / "easel.json") << R"({"steps": 8, "sampler": "ddim", "cfg_scale": 4, "eta": 0.5})";
  const Request r = resolved(folder, [](Request&) {});
  EXPECT_EQ(*r.steps, 8);
  EXPECT_EQ(*r.sampler, "ddim");
  EXPECT_EQ(*r.cfg_scale, 4.0);
  EXPECT_EQ(*r.eta, 0.5);
  EXPECT_EQ(*resolved(folder, [](Request& q) { q.steps = 3; }).steps, 3);
  EXPECT_FALSE(resolved(folder, [](Request& q) { q.sampler = "euler"; }).eta);
  for (const char* bad : {R"({"prompt": "x"})", R"({"steps": 0})", R"({"nonsense": 1})", "[]"}) {
    std::ofstream(folder / "easel.json") << bad;
    EXPECT_THROW(open_checkpoint(folder), Error) << bad;
  }
}

TEST(Resolve, FaultsAtOnce) {
  const TinyCheckpoints tiny;
  expect_fault(
      {"--clip-skip 4", "layers 1 to 3", "--negative-prompt has no effect", "--eta has no effect"},
      [&] {
        resolved(tiny.folder("sd1"), [](Request& q) {
          q.clip_skip = 4;
          q.cfg_scale = 1;
          q.negative_prompt = "x";
          q.sampler = "euler";
          q.eta = 0.5;
        });
      },
      ErrorKind::kUsage);
  expect_fault(
      {"Runge-Kutta", "at least 4 steps"},
      [&] {
        resolved(tiny.folder("sd1-linear"), [](Request& q) {
          q.sampler = "pndm";
          q.steps = 3;
        });
      },
      ErrorKind::kUsage);
}

// ---- hashes and metadata ------------------------------------------------------------------------------------------

TEST(ModelHash, ChangesWithAnyWeightsFile) {
  const TinyCheckpoints tiny;
  setenv("EASEL_CACHE", (tiny.root() / "cache").c_str(), 1);
  const fs::path folder = tiny.folder("sd1");
  const auto hash = [&] { return model_hashes(open_checkpoint(folder), false).model; };
  const std::string first = hash();
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(hash(), first) << "from the cache";
  fs::rename(folder, tiny.root() / "moved");
  EXPECT_EQ(model_hashes(open_checkpoint(tiny.root() / "moved"), false).model, first)
      << "the folder's name is no part of it";
  Tensors tensors = part_tensors("sd1", "vae");
  tensors.front().second.add_(1);
  write_safetensors(tiny.root() / "moved/vae/diffusion_pytorch_model.safetensors", tensors);
  EXPECT_NE(model_hashes(open_checkpoint(tiny.root() / "moved"), false).model, first);
  unsetenv("EASEL_CACHE");
}

TEST(Metadata, InfotextAndExactRequest) {
  const TinyCheckpoints tiny;
  Request r = resolved(tiny.folder("sd1"), [](Request& q) {
    q.prompt = "푸른 하늘";
    q.negative_prompt = "blurry";
    q.sampler = "ddim";
    q.seed = 18446744073709551615u;
    q.clip_skip = 2;
  });
  const auto texts =
      png_texts(r, {.model = std::string(64, 'a'), .vae = {}, .refiner = {}}, open_checkpoint(tiny.folder("sd1")));
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[0].keyword, "parameters");
  EXPECT_EQ(texts[0].text.substr(0, texts[0].text.find(", Version")),
            "푸른 하늘\nNegative prompt: blurry\nSteps: 20, Sampler: ddim, CFG scale: 7.5, Seed: 18446744073709551615, "
            "Size: 128x128, Model hash: aaaaaaaaaa, Model: sd1, Clip skip: 2");
  EXPECT_EQ(texts[1].keyword, "easel");
  json exact = json::parse(texts[1].text);
  EXPECT_EQ(exact.at("model_hash"), std::string(64, 'a'));
  EXPECT_EQ(exact.at("versions").at("libtorch").get<std::string>().substr(0, 2), "2.");
  exact.erase("model_hash");
  exact.erase("versions");
  EXPECT_EQ(exact, json(to_json(r)));
}

}  // namespace
}  // namespace easel
