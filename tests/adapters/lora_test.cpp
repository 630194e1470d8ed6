// LoRAs of every kind against LyCORIS' merged weights (golden/loras.safetensors, by scripts/golden/lora_golden.py),
// names, and files that do not fit.
#include "easel/lora.h"

#include <unistd.h>

#include <fstream>

#include "easel/unet.h"
#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;

namespace fs = std::filesystem;

// The tiny U-Net's tensors.
std::vector<std::pair<std::string, Tensor>> unet_tensors() {
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  UNet(shapes, UNetSpec::from_json(config("sd1", "unet"), "unet"));
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, shape] : shapes.binding().asked)
    tensors.emplace_back(name, random_weight("unet/" + name, shape, 0));
  return tensors;
}

LoraTarget target_of(const WeightSource& weights, const std::string& part = "unet") {
  LoraTarget target{part, {}, {}};
  for (const std::string& name : weights.names()) target.weights[name] = weights.info(name)->shape;
  return target;
}

const std::string kLinear = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q";
const std::string kConv = "down_blocks.0.resnets.0.conv1";

class Loras : public ::testing::Test {
 protected:
  Loras() { fs::create_directories(folder_); }
  ~Loras() override { fs::remove_all(folder_); }

  std::shared_ptr<const Lora> open(const fs::path& file, bool partial = false) const {
    return Lora::open(file, {target_of(*unet_)}, "sd1", partial);
  }
  fs::path write(const std::vector<std::pair<std::string, Tensor>>& tensors) const {
    write_safetensors(folder_ / "x.safetensors", tensors);
    return folder_ / "x.safetensors";
  }
  Tensor merged(const fs::path& file, const std::string& tensor, double strength = 1) const {
    return with_loras(unet_, "unet", {{open(file), strength}})->load(tensor);
  }
  std::string fault(const std::vector<std::pair<std::string, Tensor>>& tensors) const {
    return fault_of(write(tensors));
  }
  std::string fault_of(const fs::path& file) const {
    try {
      open(file);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kFile);
      return error.what();
    }
    return "accepted";
  }
  static void expect(const std::string& text, const std::string& words) {
    EXPECT_NE(text.find(words), std::string::npos) << words << " in: " << text;
  }

  const SourcePtr unet_ = tensor_source(unet_tensors(), "the tiny U-Net");
  const fs::path folder_ = fs::temp_directory_path() / ("easel-loras-" + std::to_string(::getpid()));
};

TEST_F(Loras, OfEveryKindEqualLycoris) {
  constexpr int64_t kStride = 7;
  const SourcePtr golden = open_safetensors(data("golden/loras.safetensors"));
  double largest = 0;
  std::set<std::string> kinds;
  for (const std::string& key : golden->names()) {
    const std::size_t slash = key.find('/'), at = key.find('@');
    const std::string file = key.substr(0, slash), tensor = key.substr(slash + 6, std::min(at, key.size()) - slash - 6);
    const double strength = at == std::string::npos ? 1 : 0.6;
    const Tensor own = unet_->load(tensor);
    const Tensor got = merged(data("loras/" + file + ".safetensors"), tensor, strength);
    ASSERT_TRUE(got.sizes().equals(own.sizes())) << key;
    const Tensor want = golden->load(key), sampled = got.flatten().slice(0, 0, std::nullopt, kStride);
    const double apart = relative_difference(sampled, want);
    EXPECT_LE(apart, 1e-6) << key;
    EXPECT_GT(relative_difference(own.flatten().slice(0, 0, std::nullopt, kStride), want), 0.05)
        << key << " changes much";
    largest = std::max(largest, apart);
    kinds.insert(file);
  }
  std::cout << kinds.size() << " files, " << golden->names().size() << " merged weights: largest relative difference "
            << largest << "\n";
  EXPECT_EQ(kinds.size(), 8u);
}

TEST_F(Loras, TensorsThatAreNotChangedAreTheModelsOwn) {
  const SourcePtr changed = with_loras(unet_, "unet", {{open(data("loras/locon.safetensors")), 1.0}});
  for (const std::string& name : unet_->names()) {
    const bool same = changed->load(name).data_ptr() == unet_->load(name).data_ptr();
    const bool is_changed = open(data("loras/locon.safetensors"))->changes("unet", name);
    EXPECT_NE(same, is_changed) << name;
  }
  EXPECT_EQ(with_loras(unet_, "text_encoder", {{open(data("loras/locon.safetensors")), 1.0}}), unet_);
}

TEST_F(Loras, NamesOfEveryProgram) {
  const Tensor down = at::randn({2, 32}), up = at::randn({32, 2});
  const Tensor want = unet_->load(kLinear + ".weight") + at::matmul(up, down);
  const std::string under = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q";
  const std::string processor = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_q_lora";
  for (const auto& [first, second] : std::vector<std::pair<std::string, std::string>>{
           {under + ".lora_down.weight", under + ".lora_up.weight"},
           {"unet." + kLinear + ".lora_A.weight", "unet." + kLinear + ".lora_B.weight"},
           {"base_model.model." + kLinear + ".lora_A.default.weight",
            "base_model.model." + kLinear + ".lora_B.default.weight"},
           {kLinear + ".lora_A.weight", kLinear + ".lora_B.weight"},
           {"unet." + kLinear + ".lora.down.weight", "unet." + kLinear + ".lora.up.weight"},
           {processor + ".down.weight", processor + ".up.weight"},
           {"unet." + processor + ".down.weight", "unet." + processor + ".up.weight"}}) {
    const Tensor got = merged(write({{first, down}, {second, up}}), kLinear + ".weight");
    EXPECT_LE(relative_difference(got, want), 1e-6) << first;
  }
  // Matrices as 1x1 convolutions and the other way round.
  EXPECT_LE(relative_difference(merged(write({{under + ".lora_down.weight", down.view({2, 32, 1, 1})},
                                              {under + ".lora_up.weight", up.view({32, 2, 1, 1})}}),
                                       kLinear + ".weight"),
                                want),
            1e-6);
  const std::string one = "down_blocks.0.attentions.0.proj_in";
  EXPECT_LE(relative_difference(
                merged(write({{one + ".lora_A.weight", down}, {one + ".lora_B.weight", up}}), one + ".weight"),
                unet_->load(one + ".weight") + at::matmul(up, down).view({32, 32, 1, 1})),
            1e-6);
}

TEST_F(Loras, AlphaAndRank) {
  const Tensor down = at::randn({4, 32}), up = at::randn({32, 4}), own = unet_->load(kLinear + ".weight");
  const auto scale_of = [&](std::vector<std::pair<std::string, Tensor>> more, const Metadata& metadata = {}) {
    std::vector<std::pair<std::string, Tensor>> tensors = {{kLinear + ".lora_A.weight", down},
                                                           {kLinear + ".lora_B.weight", up}};
    tensors.insert(tensors.end(), more.begin(), more.end());
    write_safetensors(folder_ / "x.safetensors", *tensor_source(tensors, "x"), {}, metadata);
    const Tensor change = merged(folder_ / "x.safetensors", kLinear + ".weight") - own;
    return (change.sum() / at::matmul(up, down).sum()).item<double>();
  };
  EXPECT_NEAR(scale_of({}), 1, 1e-3);
  EXPECT_NEAR(scale_of({{kLinear + ".alpha", at::scalar_tensor(2.0)}}), 0.5, 1e-3);
  EXPECT_NEAR(scale_of({}, {{"lora_adapter_metadata", R"({"unet.lora_alpha": 8, "unet.r": 4})"}}), 2, 1e-3);
  EXPECT_NEAR(scale_of({}, {{"lora_adapter_metadata", R"({"lora_alpha": 8, "use_rslora": true})"}}), 4, 1e-3);
  EXPECT_NEAR(scale_of({}, {{"lora_adapter_metadata", "no JSON"}}), 1, 1e-3);
}

TEST_F(Loras, FilesThatDoNotFitAreNamed) {
  const Tensor down = at::ones({2, 32}), up = at::ones({32, 2});
  const auto linear = [&](const Tensor& a, const Tensor& b) {
    return fault({{kLinear + ".lora_A.weight", a}, {kLinear + ".lora_B.weight", b}});
  };
  EXPECT_EQ(linear(down, up), "accepted");
  expect(linear(at::ones({3, 32}), up),
         "lora_up and lora_down do not multiply to it: [32, 2] and [3, 32]; the model's");
  expect(linear(at::ones({2, 31}), up), "do not multiply");
  expect(linear(at::ones({0, 32}), at::ones({32, 0})), "lora_down is empty");
  expect(linear(at::ones({32}), up), "expected a matrix");
  expect(linear(at::full({2, 32}, std::nan("")), up), "values that are not finite");
  expect(fault({{kLinear + ".lora_A.weight", down}}), "its lora_up is missing");
  expect(
      fault(
          {{kLinear + ".lora_A.weight", down}, {kLinear + ".lora_B.weight", up}, {kLinear + ".alpha", at::ones({3})}}),
      "alpha has shape [3], expected a number");
  expect(fault({{kLinear + ".hada_w1_a", up}, {kLinear + ".hada_w1_b", down}}), "hada_w2_a is missing");
  expect(fault({{kLinear + ".lokr_w1", at::ones({5, 4})}, {kLinear + ".lokr_w2", at::ones({8, 8})}}), "Kronecker");
  expect(fault({{kConv + ".lora_A.weight", at::ones({2, 32, 3, 3})},
                {kConv + ".lora_B.weight", at::ones({32, 2, 1, 1})},
                {kConv + ".dora_scale", at::ones({7})}}),
         "dora_scale has shape [7]");
  expect(fault({{"something", down}}), "this is no LoRA");
  expect(fault({{"lora_unet_x.lora_down.weight", down}, {"lora_unet_x.lora_up.weight", up}}),
         "1 names have no counterpart in this model: lora_unet_x; --lora-partial leaves them out");
}

TEST_F(Loras, OfOtherFamiliesAreNamed) {
  const std::string to_k = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
  expect(fault({{to_k + ".lora_down.weight", at::ones({2, 2048})}, {to_k + ".lora_up.weight", at::ones({32, 2})}}),
         "a LoRA for Stable Diffusion XL, and this model is Stable Diffusion 1.x");
  expect(fault_of(data("loras/kohya-xl.safetensors")), "a LoRA for Stable Diffusion XL");
}

TEST_F(Loras, PartlyUsedWhereThatIsAllowed) {
  const fs::path file = write({{kLinear + ".lora_A.weight", at::ones({2, 32})},
                               {kLinear + ".lora_B.weight", at::ones({32, 2})},
                               {"other.place.lora_A.weight", at::ones({2, 32})},
                               {"strange", at::ones({2})}});
  expect(fault_of(file), "2 names have no counterpart in this model: strange, other.place");
  EXPECT_EQ(open(file, /*partial=*/true)->tensors(), 1u);
}

TEST_F(Loras, CutFilesAreRefused) {
  const std::string whole = [&] {
    std::ifstream in(data("loras/locon.safetensors"), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, whole.size() / 2, whole.size() - 1}) {
    std::ofstream(folder_ / "cut.safetensors", std::ios::binary) << whole.substr(0, size);
    expect(fault_of(folder_ / "cut.safetensors"), "cut.safetensors");
  }
}

TEST(LoraChoices, SplitAtTheLastNumbers) {
  const auto is = [](const std::string& text, const std::string& file, double unet, double text_encoder) {
    const LoraChoice choice = parse_lora(text);
    EXPECT_EQ(choice.file, file) << text;
    EXPECT_EQ(choice.unet, unet) << text;
    EXPECT_EQ(choice.text_encoder, text_encoder) << text;
  };
  is("a.safetensors", "a.safetensors", 1, 1);
  is("a.safetensors:0.7", "a.safetensors", 0.7, 0.7);
  is("a.safetensors:0.7:0", "a.safetensors", 0.7, 0);
  is("C:dir:a:-1", "C:dir:a", -1, -1);
  is("12:30:1:2", "12:30", 1, 2);
  is("a:b", "a:b", 1, 1);
  is("a:1:b", "a:1:b", 1, 1);
  is(":0.5", ":0.5", 1, 1);
  is("a:nan", "a:nan", 1, 1);
}

TEST_F(Loras, BesideTheWeights) {
  const auto lora = open(data("loras/locon.safetensors"));
  const SourcePtr source = with_loras(unet_, "unet", {{lora, 0.6}}, /*beside=*/true);
  const std::string conv = kConv + ".weight", norm = "down_blocks.0.resnets.0.norm1.weight";
  EXPECT_TRUE(source->beside(norm).empty());
  const std::vector<LowRank> beside = source->beside(conv);
  ASSERT_EQ(beside.size(), 1u);
  const Shape shape = source->info(conv)->shape;
  EXPECT_TRUE(at::equal(source->load_unchanged(conv, shape), unet_->load(conv)));
  const Tensor change = at::matmul(beside[0].up, beside[0].down.flatten(1)).reshape(shape) * beside[0].scale;
  EXPECT_LE(relative_difference(unet_->load(conv) + change, source->load(conv)), 1e-6);
  // what is no product of two is merged
  const SourcePtr dora = with_loras(unet_, "unet", {{lora, 0.6}, {open(data("loras/dora.safetensors")), 1.0}}, true);
  EXPECT_TRUE(dora->beside(conv).empty());
  const SourcePtr at_load = with_loras(unet_, "unet", {{lora, 0.6}});
  EXPECT_TRUE(at_load->beside(conv).empty());
}

}  // namespace
}  // namespace easel
