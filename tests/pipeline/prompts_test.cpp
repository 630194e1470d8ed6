// Pictures of the prompt language (golden/prompts.pictures.*, by scripts/golden/prompt_pictures_golden.py).
#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

class PromptPictures : public TinyPipelines {
 protected:
  Request request(const std::string& prompt) {
    Request r;
    r.prompt = prompt;
    r.seed = 5;
    r.steps = 4;
    r.sampler = "ddim";
    r.width = 64;
    r.height = 48;
    return r;
  }

  Image draw(const Request& r, const std::string& model = "sd1") {
    return pipeline(model).generate(resolved(r, model)).image;
  }
  Image draw(const std::string& prompt, const std::string& model = "sd1") { return draw(request(prompt), model); }
};

TEST_F(PromptPictures, EqualTheReference) {
  const SourcePtr pictures = open_safetensors(data("golden/prompts.pictures.safetensors"));
  for (const json& golden : read(data("golden/prompts.pictures.json"))) {
    const std::string name = golden.at("name"), model = golden.at("model");
    SCOPED_TRACE(name);
    const Picture picture = pipeline(model).generate(resolved(request_in(golden), model));
    const double latent = relative_difference(picture.latent, pictures->load(name + ".latents"));
    const int largest = largest_difference(picture.image, image_of(pictures->load(name)));
    std::cout << name << ": latent " << latent << ", largest " << largest << "/255\n";
    EXPECT_LE(latent, 1e-4);
    EXPECT_LE(largest, 1);
  }
}

// Textual inversions, by diffusers' load_textual_inversion (scripts/golden/textual_inversion_golden.py).
TEST_F(PromptPictures, LearnedWordsEqualTheReference) {
  const SourcePtr pictures = open_safetensors(data("golden/embeddings.pictures.safetensors"));
  for (const json& golden : read(data("golden/embeddings.json"))) {
    const std::string name = golden.at("name"), model = golden.at("model");
    SCOPED_TRACE(name);
    Request r = request_in(golden);
    const Image without = draw(r, model);
    r.embd_dir = data("embeddings/" + model);
    const Image want = image_of(pictures->load(name)), got = draw(r, model);
    std::cout << name << ": largest " << largest_difference(got, want) << "/255, without the files "
              << largest_difference(without, want) << "/255\n";
    EXPECT_LE(largest_difference(got, want), 1);
    EXPECT_GT(largest_difference(without, want), 4) << "the words are read";
  }
}

TEST_F(PromptPictures, RawReadsBracketsAsLetters) {
  Request plain = request("a (red:1.5) [cat:dog:2] AND fox"), without = request("a red fox");
  const Image language = draw(plain);
  plain.prompt_syntax = without.prompt_syntax = "raw";
  EXPECT_GT(largest_difference(draw(plain), language), 8);
  EXPECT_EQ(draw(without).pixels, draw("a red fox").pixels) << "nothing to read: the same bits";
}

TEST_F(PromptPictures, CompelWeighsInItsOwnWay) {
  Request r = request("a (red:1.5) [[cat]]");
  const Image a1111 = draw(r);
  r.prompt_weighting = "compel";
  EXPECT_GT(largest_difference(draw(r), a1111), 4);
  Request plain = request("a red cat"), other = plain;
  other.prompt_weighting = "compel";
  EXPECT_EQ(draw(plain).pixels, draw(other).pixels);
}

TEST_F(PromptPictures, PartsAddUp) {
  const Image cat = draw("a cat"), dog = draw("a dog");
  EXPECT_LE(largest_difference(draw("a cat :0.5 AND a cat :0.5"), cat), 1);
  EXPECT_LE(largest_difference(draw("a cat AND a dog :0"), cat), 1);
  EXPECT_GT(largest_difference(draw("a cat AND a dog"), cat), 8);
  Request unguided = request("a cat :0.5 AND a dog :0.5"), alone = request("a cat");
  unguided.cfg_scale = alone.cfg_scale = 1;
  EXPECT_GT(largest_difference(draw(unguided), draw(alone)), 2);
  Request twice = request("a cat :3 AND a cat :3");
  twice.cfg_scale = 1;
  EXPECT_LE(largest_difference(draw(twice), draw(alone)), 1) << "a mean";
  Request late = request("a cat AND a cat"), late_alone = request("a cat");
  late.cfg_start = late_alone.cfg_start = 0.99;
  EXPECT_LE(largest_difference(draw(late), draw(late_alone)), 1) << "outside the interval there is the mean";
}

TEST_F(PromptPictures, SchedulesBeginWhereTheRunDoes) {
  Request whole = request("[a cat:a dog:1]"), part = whole;
  whole.strength.reset();
  part.init_img = data("golden/input.png");
  part.resize = "stretch";
  part.strength = 0.5;  // 2 of 4 steps, which count as 0 and 1
  Request cat = part, dog = part;
  cat.prompt = "a cat", dog.prompt = "a dog";
  EXPECT_EQ(draw(part).pixels, draw(cat).pixels);
  part.prompt = "[a cat:a dog:0]";
  EXPECT_EQ(draw(part).pixels, draw(dog).pixels);
  EXPECT_NE(draw(cat).pixels, draw(dog).pixels);
}

TEST_F(PromptPictures, TheSecondPassCountsOn) {
  Request r = request("a [cat:dog:1.0]"), cat = request("a cat");
  r.hires = cat.hires = 1.5;
  r.hires_strength = cat.hires_strength = 1.0;
  EXPECT_GT(largest_difference(draw(r), draw(cat)), 4) << "in the second pass it becomes a dog";
  r.prompt = "a [cat:dog:8]";  // behind the last step of both
  EXPECT_EQ(draw(r).pixels, draw(cat).pixels);
}

TEST_F(PromptPictures, EqualAloneInPacks) {
  for (const char* model : {"sd1", "sdxl"}) {
    std::vector<Request> pack;
    for (const char* prompt : {"a [cat:dog:1] AND (mars:1.3):0.4", "x AND y", "[a|b|c] AND fox :-1"}) {
      Request r = request(prompt);
      r.seed = 20 + pack.size();
      if (pack.size() == 1) r.negative_prompt = "[blurry:noise:2]";
      if (model == std::string("sdxl") && !r.negative_prompt) r.negative_prompt = "";
      pack.push_back(resolved(r, model));
    }
    std::set<std::string> keys;
    for (const Request& r : pack) keys.insert(pack_key(r, pipeline(model).checkpoint()));
    EXPECT_EQ(keys.size(), 1u);
    const std::vector<Outcome> together = pipeline(model).generate(pack);
    for (std::size_t i = 0; i < pack.size(); ++i)
      EXPECT_LE(largest_difference(std::get<Picture>(together[i]).image, pipeline(model).generate(pack[i]).image), 1);
  }
}

TEST_F(PromptPictures, KeysTellShapesApart) {
  std::string words;
  for (int i = 0; i < 80; ++i) words += "cat ";
  std::set<std::string> keys;
  for (const std::string& prompt : {std::string("a"), std::string("a AND b"), words, words + "AND b"})
    keys.insert(pack_key(resolved(request(prompt)), pipeline("sd1").checkpoint()));
  EXPECT_EQ(keys.size(), 4u);
  Request raw = request(words);
  raw.prompt_syntax = "raw";
  EXPECT_EQ(pack_key(resolved(raw), pipeline("sd1").checkpoint()),
            pack_key(resolved(request("a")), pipeline("sd1").checkpoint()));
}

TEST_F(PromptPictures, FaultsAreNamed) {
  const auto fault = [&](const std::vector<std::string>& words, const std::function<void(Request&)>& change,
                         const std::string& model = "sd1") {
    Request r = request("a");
    change(r);
    expect_fault(
        words, [&] { resolved(r, model); }, ErrorKind::kUsage);
  };
  fault({"<lora:x:high>", "no strength"}, [](Request& r) { r.prompt = "a <lora:x:high>"; });
  fault({"the negative prompt has a <lora:...> tag"}, [](Request& r) { r.negative_prompt = "<lora:x:1>"; });
  fault(
      {"--prompt-2 has 1 parts joined by AND, the prompt 2"},
      [](Request& r) { r.prompt = "a AND b", r.prompt_2 = "c"; }, "sdxl");
  fault({"--embd-dir has no effect with --prompt-syntax raw"},
        [](Request& r) { r.prompt_syntax = "raw", r.embd_dir = data("embeddings/sd1"); });
  Request other = request("a duskxl fox");
  other.embd_dir = data("embeddings/sdxl");
  expect_fault({"duskxl.safetensors", "for Stable Diffusion XL"}, [&] { resolved(other); });
  other.prompt = "a fox";
  EXPECT_NO_THROW(resolved(other)) << "files that no prompt names are not read";
  fault({"--prompt-weighting has no effect with --prompt-syntax raw"},
        [](Request& r) { r.prompt_syntax = "raw", r.prompt_weighting = "compel"; });
}

}  // namespace
}  // namespace easel
