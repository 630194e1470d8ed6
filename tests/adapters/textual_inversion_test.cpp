// Textual inversions in the forms they are published in (tests/data/embeddings), and files that are none.
#include "easel/textual_inversion.h"

#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;

namespace fs = std::filesystem;

int64_t width_of(const std::string& model, const std::string& part) { return config(model, part).at("hidden_size"); }

class Inversions : public ::testing::Test {
 protected:
  Inversions() { fs::create_directories(folder_); }
  ~Inversions() override { fs::remove_all(folder_); }

  // The fault of reading a file with those tensors.
  std::string fault(const std::vector<std::pair<std::string, Tensor>>& tensors, const EncoderWidths& widths) {
    write_safetensors(folder_ / "x.safetensors", tensors);
    return fault(folder_ / "x.safetensors", widths);
  }
  std::string fault(const fs::path& file, const EncoderWidths& widths) {
    try {
      read_textual_inversion(file, widths);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kFile);
      return error.what();
    }
    return "accepted";
  }
  void expect(const std::string& text, const std::string& words) {
    EXPECT_NE(text.find(words), std::string::npos) << words << " in: " << text;
  }

  const EncoderWidths sd1_ = {width_of("sd1", "text_encoder"), 0};
  const EncoderWidths sdxl_ = {width_of("sdxl", "text_encoder"), width_of("sdxl", "text_encoder_2")};
  const fs::path folder_ = fs::temp_directory_path() / ("easel-inversions-" + std::to_string(::getpid()));
};

TEST_F(Inversions, OfEveryForm) {
  const auto words = textual_inversions_in(data("embeddings/sd1"));
  ASSERT_EQ(words.size(), 3u);
  for (const auto& [word, count] : {std::pair{"inkwash", 2}, {"mosswork", 1}, {"glowlight", 4}}) {
    const TextualInversion one = read_textual_inversion(words.at(word), sd1_);
    EXPECT_EQ(to_string(one.first.sizes()), to_string(Shape{count, sd1_.first})) << word;
    EXPECT_FALSE(one.second.defined());
  }
  const TextualInversion both = read_textual_inversion(data("embeddings/sdxl/duskxl.safetensors"), sdxl_);
  EXPECT_EQ(to_string(both.first.sizes()), to_string(Shape{3, sdxl_.first}));
  EXPECT_EQ(to_string(both.second.sizes()), to_string(Shape{3, sdxl_.second}));
  EXPECT_FALSE(read_textual_inversion(data("embeddings/sdxl/duskxl.safetensors"), {0, sdxl_.second}).first.defined())
      << "a refiner has the second encoder alone";
}

TEST_F(Inversions, OfAnotherModelAreNamed) {
  expect(fault(data("embeddings/sdxl/duskxl.safetensors"), sd1_),
         "for Stable Diffusion XL (clip_l, clip_g), but this model has one text encoder");
  expect(fault(data("embeddings/sd1/inkwash.pt"), sdxl_), "this model has two (Stable Diffusion XL): expected clip_l");
  expect(fault({{"emb_params", at::ones({2, 768})}}, sdxl_), "one text encoder (Stable Diffusion 1.x)");
  expect(fault({{"emb_params", at::ones({2, 768})}}, {1024, 0}), "shape [2, 768], expected [n, 1024]");
  expect(fault({{"clip_l", at::ones({2, sdxl_.first})}}, sdxl_), "no tensor clip_g");
}

TEST_F(Inversions, OfStrangers) {
  const auto param = [&](const Tensor& tensor) { return fault({{"emb_params", tensor}}, sd1_); };
  expect(param(at::ones({76, sd1_.first})), "76 vectors, expected 1 to 75");
  expect(param(at::ones({0, sd1_.first})), "0 vectors");
  expect(param(at::ones({1, 2, sd1_.first})), "expected [n, ");
  expect(param(at::scalar_tensor(1.0)), "expected [n, ");
  expect(param(at::full({1, sd1_.first}, std::nan(""))), "not finite");
  expect(fault({{"a", at::ones({1, 4})}, {"b", at::ones({1, 4})}}, sd1_), "this is no textual inversion");
  expect(fault({{"clip_l", at::ones({2, sdxl_.first})}, {"clip_g", at::ones({3, sdxl_.second})}}, sdxl_),
         "2 vectors for the first text encoder, 3 for the second");
  std::ofstream(folder_ / "text.pt") << "no tensors";
  expect(fault(folder_ / "text.pt", sd1_), "text.pt");
  expect(fault(folder_ / "missing.pt", sd1_), "missing.pt");
}

TEST_F(Inversions, FoldersAreLookedInto) {
  EXPECT_TRUE(textual_inversions_in(folder_).empty());
  fs::create_directories(folder_ / "a");
  for (const char* name : {"w.pt", "a/w.bin", "a/note.txt", "v.safetensors"}) std::ofstream(folder_ / name) << "x";
  try {
    textual_inversions_in(folder_);
    ADD_FAILURE() << "two files of one word were accepted";
  } catch (const Error& error) {
    expect(error.what(), "w.pt: the same word as ");
  }
  fs::remove(folder_ / "w.pt");
  EXPECT_EQ(textual_inversions_in(folder_).size(), 2u);
  EXPECT_THROW(textual_inversions_in(folder_ / "none"), Error);
}

}  // namespace
}  // namespace easel
