// ControlNets against diffusers' pipelines, and edges against OpenCV's (by scripts/golden/controlnet_golden.py).
#include "easel/controlnet.h"
#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

// Those of build_control() in controlnet_golden.py.
Tensors control_tensors(const std::string& name) {
  const json spec = read(data("controlnets/" + name + "/config.json"));
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  ControlNet(shapes, ControlNetSpec::from_json(spec, name));
  Tensors tensors;
  for (const auto& [key, shape] : shapes.binding().asked) {
    const bool is_zero_convolution =
        key.starts_with("controlnet_down_blocks") || key.starts_with("controlnet_mid_block");
    const Tensor weight = random_weight(name + "/" + key, shape, 0);
    tensors.emplace_back(key, is_zero_convolution ? 0.3 * weight : weight);
  }
  return tensors;
}

Image canny_case(const WeightSource& golden, int i) {
  const std::string name = "canny." + std::to_string(i);
  const Tensor thresholds = golden.load(name + ".thresholds");
  return canny(image_of(golden.load(name + ".of")), static_cast<int>(thresholds[0].item<int64_t>()),
               static_cast<int>(thresholds[1].item<int64_t>()));
}

TEST(Canny, EqualsOpenCv) {
  const SourcePtr golden = open_safetensors(data("golden/controlnets.pictures.safetensors"));
  for (int i = 0; i < 6; ++i) {
    SCOPED_TRACE(i);
    const Tensor want = golden->load("canny." + std::to_string(i)).unsqueeze(-1).expand({-1, -1, 3});
    const Image got = canny_case(*golden, i);
    const auto difference = compare(got, image_of(want));
    ASSERT_TRUE(difference);
    EXPECT_TRUE(difference->is_equal());
  }
  EXPECT_GT(golden->load("canny.0").count_nonzero().item<int64_t>(), 100) << "there are edges";
}

class Controls : public TinyPipelines {
 protected:
  fs::path net(const std::string& name) const {
    const fs::path folder = tiny_.root() / name;
    if (fs::exists(folder)) return folder;
    fs::create_directories(folder);
    fs::copy(data("controlnets/" + name + "/config.json"), folder);
    write_safetensors(folder / "diffusion_pytorch_model.safetensors", control_tensors(name));
    return folder;
  }
  // As lllyasviel published them: LDM's names behind control_model.
  fs::path original(const std::string& name) const {
    const fs::path file = tiny_.root() / (name + "-ldm.safetensors");
    const json spec = read(data("controlnets/" + name + "/config.json"));
    const SourcePtr ours = tensor_source(control_tensors(name), name);
    const SourcePtr theirs = as_single_file(ours, {"controlnet", "control_model.", Naming::kLdm}, spec);
    Tensors tensors;
    for (const std::string& key : theirs->names()) tensors.emplace_back(key, theirs->load(key));
    write_safetensors(file, tensors);
    return file;
  }
  Picture draw(const Request& r, const std::string& model = "sd1") {
    return pipeline(model).generate(resolved(r, model));
  }
  Request request() const {
    Request r;
    r.prompt = "a cat";
    r.seed = 5;
    r.steps = 2;
    r.sampler = "ddim";
    r.width = 72;
    r.height = 56;
    r.control_net = {{net("sd1-edges").string()}};
    r.control_image = {{data("golden/control-edges.png")}};
    return r;
  }
  Request without(Request r) const {
    r.control_net.reset(), r.control_image.reset(), r.control_strength.reset(), r.control_start.reset();
    r.control_end.reset(), r.control_guess.reset();
    return r;
  }
};

TEST_F(Controls, EqualTheReference) {
  const SourcePtr pictures = open_safetensors(data("golden/controlnets.pictures.safetensors"));
  for (const json& golden : read(data("golden/controlnets.json"))) {
    const std::string name = golden.at("name"), model = golden.at("model");
    SCOPED_TRACE(name);
    Request r = request_in(golden);
    for (std::string& one : *r.control_net) one = net(one).string();
    for (std::string& one : *r.control_image) one = data("golden/" + one);
    if (r.init_img) r.init_img = data("golden/" + *r.init_img);
    const Image want = image_of(pictures->load(name)), got = draw(r, model).image;
    const int apart = largest_difference(got, want), alone = largest_difference(draw(without(r), model).image, want);
    std::cout << name << ": largest " << apart << "/255, without " << alone << "/255\n";
    EXPECT_LE(apart, 1);
    EXPECT_GT(alone, 8);
  }
}

TEST_F(Controls, TheOriginalLayoutIsTheSame) {
  Request r = request();
  const Picture folder = draw(r);
  r.control_net = {{original("sd1-edges").string()}};
  expect_same(draw(r), folder);
  r.control_net = {{(net("sd1-edges") / "diffusion_pytorch_model.safetensors").string()}};
  expect_same(draw(r), folder);
}

TEST_F(Controls, TogetherAsAlone) {
  std::vector<Request> pack;
  for (int i = 0; i < 3; ++i) {
    Request r = request();
    r.seed = 40 + i;
    r.prompt = i == 1 ? "a cat :0.7 AND a dog" : "a bird AND a house :0.5";
    r.control_guess = true;
    r.control_image = {{data(i == 2 ? "golden/control-shapes.png" : "golden/control-edges.png")}};
    if (i == 2) r.canny = true;
    pack.push_back(resolved(r));
  }
  const Checkpoint& c = pipeline("sd1").checkpoint();
  EXPECT_EQ(pack_key(pack[0], c), pack_key(pack[2], c)) << "pictures and edges are each one's own";
  const std::vector<Outcome> together = pipeline("sd1").generate(pack);
  for (std::size_t i = 0; i < pack.size(); ++i)
    EXPECT_LE(largest_difference(std::get<Picture>(together[i]).image, pipeline("sd1").generate(pack[i]).image), 1);
  Request weaker = request();
  weaker.control_strength = {{0.5}};
  EXPECT_NE(pack_key(resolved(weaker), c), pack_key(resolved(request()), c));
}

TEST_F(Controls, WhatIsTakenAwayLeavesNoTrace) {
  const Picture before = draw(without(request()));
  const Picture controlled = draw(request());
  EXPECT_NE(controlled.image.pixels, before.image.pixels);
  EXPECT_TRUE(at::equal(draw(without(request())).latent, before.latent));
  Request silent = request();
  silent.control_strength = {{0.0}};
  EXPECT_TRUE(at::equal(draw(silent).latent, before.latent));
  EXPECT_TRUE(at::equal(draw(request()).latent, controlled.latent));
}

TEST_F(Controls, EdgesOfAPhotograph) {
  Request photo = request(), edges = request();
  photo.control_image = {{data("golden/control-shapes.png")}};
  photo.canny = true;
  EXPECT_EQ(draw(photo).image.pixels, draw(edges).image.pixels) << "control-edges.png is cv2.Canny of it";
  photo.canny_high = photo.canny_low = 2000;
  EXPECT_NE(draw(photo).image.pixels, draw(edges).image.pixels);
}

TEST_F(Controls, BothPassesOfHires) {
  Request r = request();
  r.hires = 2;
  r.hires_upscaler = "latent";
  const Image both = draw(r).image, plain = draw(without(r)).image;
  EXPECT_EQ(both.width, 144);
  r.control_end = {{0.5}};  // of the first step of two, in each pass
  EXPECT_NE(draw(r).image.pixels, both.pixels);
  EXPECT_NE(plain.pixels, both.pixels);
}

TEST_F(Controls, AnInpaintingModelsNetworkSeesTheLatentAlone) {
  Request r = request();
  r.width.reset(), r.height.reset();
  r.init_img = data("golden/input.png");
  r.mask = data("golden/input-mask.png");
  const Image controlled = draw(r, "sd1-inpaint").image;
  EXPECT_EQ(controlled.width, 104);
  EXPECT_NE(draw(without(r), "sd1-inpaint").image.pixels, controlled.pixels);
}

TEST_F(Controls, HalfPrecision) {
  const Precision bf16 = resolve_precision("cpu", DtypeChoice::kBF16);
  Pipeline half(open_checkpoint(tiny_.folder("sd1")), bf16);
  const Image got = half.generate(resolve(request(), half.checkpoint(), bf16)).image;
  EXPECT_NE(half.generate(resolve(without(request()), half.checkpoint(), bf16)).image.pixels, got.pixels);
}

TEST_F(Controls, Recorded) {
  Request r = request();
  r.control_net = {{original("sd1-edges").string()}};
  r.canny = true;
  const Checkpoint& c = pipeline("sd1").checkpoint();
  const std::vector<PngText> texts =
      png_texts(resolved(r), {.model = std::string(64, 'a'), .vae = "", .refiner = ""}, c);
  EXPECT_NE(texts[0].text.find("ControlNet 0: \"Module: canny, Model: sd1-edges-ldm ["), std::string::npos)
      << texts[0].text;
  const json exact = json::parse(texts[1].text);
  EXPECT_EQ(exact.at("control_hashes").at("sd1-edges-ldm").get<std::string>().size(), 64u);
  EXPECT_EQ(exact.at("control_strength"), json({1.0}));
  EXPECT_EQ(exact.at("canny_high"), 200);
}

TEST_F(Controls, FaultsAreNamed) {
  const auto fault = [&](const std::vector<std::string>& words, const std::function<void(Request&)>& change,
                         ErrorKind kind = ErrorKind::kFile, const std::string& model = "sd1") {
    Request r = request();
    change(r);
    expect_fault(
        words, [&] { resolved(r, model); }, kind);
  };
  const auto usage = ErrorKind::kUsage;
  fault({"no ControlNet at missing.safetensors"}, [](Request& r) { r.control_net = {{"missing.safetensors"}}; });
  fault({"this is no ControlNet: LoRA"}, [](Request& r) { r.control_net = {{data("loras/peft.safetensors")}}; });
  fault(
      {"a ControlNet for another kind of model", "cross_attention_dim is 32, the U-Net's 80"}, [](Request&) {},
      ErrorKind::kFile, "sdxl");
  fault({"missing.png"}, [](Request& r) { r.control_image = {{"missing.png"}}; });
  fault(
      {"1 --control-net and 0 --control-image"}, [](Request& r) { r.control_image.reset(); }, usage);
  fault(
      {"2 --control-strength for 1 --control-net"},
      [](Request& r) {
        r.control_strength = {{1, 1}};
      },
      usage);
  fault(
      {"--control-start 0.5 is not before --control-end 0.5"},
      [](Request& r) { r.control_start = r.control_end = {{0.5}}; }, usage);
  fault(
      {"--canny-low 300 is above --canny-high 200"}, [](Request& r) { r.canny = true, r.canny_low = 300; }, usage);
  fault(
      {"--canny-low has no effect without --canny"}, [](Request& r) { r.canny_low = 3; }, usage);
  fault(
      {"--control-image has no effect without --control-net"}, [](Request& r) { r.control_net.reset(); }, usage);
}

TEST_F(Controls, DamagedNetworks) {
  const auto fault = [&](const std::vector<std::string>& words, const fs::path& folder) {
    Request r = request();
    r.control_net = {{folder.string()}};
    expect_fault(words, [&] { resolved(r); });
  };
  const auto copy = [&](const std::string& name) {
    const fs::path made = tiny_.root() / name;
    fs::copy(net("sd1-edges"), made);
    return made;
  };
  const fs::path union_net = copy("union");
  rewrite(union_net / "config.json", "_class_name", "ControlNetUnionModel");
  fault({"_class_name is \"ControlNetUnionModel\", expected ControlNetModel"}, union_net);
  const fs::path deep = copy("deep");
  rewrite(deep / "config.json", "layers_per_block", 3);
  fault({"a ControlNet for another kind of model: its levels"}, deep);
  const fs::path lacking = copy("lacking");
  Tensors tensors = control_tensors("sd1-edges");
  std::erase_if(tensors, [](const auto& one) { return one.first == "controlnet_mid_block.bias"; });
  tensors.emplace_back("task_embedding", at::ones({6, 320}));
  write_safetensors(lacking / "diffusion_pytorch_model.safetensors", tensors);
  fault({"lacking: ", "controlnet_mid_block.bias", "task_embedding"}, lacking);
  const fs::path broken = copy("broken");
  tensors = control_tensors("sd1-edges");
  tensors.front().second.fill_(std::nan(""));
  write_safetensors(broken / "diffusion_pytorch_model.safetensors", tensors);
  Request r = request();
  r.control_net = {{broken.string()}};
  expect_fault({tensors.front().first}, [&] { draw(r); });
  const fs::path cut = copy("cut");
  fs::resize_file(cut / "diffusion_pytorch_model.safetensors", 5000);
  fault({"diffusion_pytorch_model.safetensors"}, cut);
}

}  // namespace
}  // namespace easel
