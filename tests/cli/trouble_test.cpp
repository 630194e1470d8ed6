// Models that are broken, places that cannot be written, signals, too little memory.
#include <csignal>
#include <thread>

#include "cli/program.h"
#include "easel/image.h"
#include "easel/weights.h"

namespace easel::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const fs::path kModel = EASEL_SOURCE_DIR "/models/easel-tiny";

class Trouble : public CliTest {
 protected:
  using Tensors = std::vector<std::pair<std::string, Tensor>>;

  // The bundled model with one file left out, to be written anew.
  fs::path model_without(const std::string& file) const {
    const fs::path model = folder_ / "model";
    for (const auto& entry : fs::recursive_directory_iterator(kModel)) {
      const fs::path relative = entry.path().lexically_relative(kModel);
      if (entry.is_directory()) fs::create_directories(model / relative);
      if (entry.is_regular_file() && relative != file) fs::create_symlink(entry.path(), model / relative);
    }
    return model;
  }

  // The bundled model with one part's tensors changed.
  template <typename Change>
  fs::path model_with(const std::string& file, const Change& change) const {
    const fs::path model = model_without(file);
    const SourcePtr source = open_safetensors(kModel / file);
    Tensors tensors;
    for (const std::string& name : source->names()) tensors.emplace_back(name, source->load(name).clone());
    change(tensors);
    write_safetensors(model / file, tensors);
    return model;
  }

  static Tensors::value_type& find(Tensors& tensors, const std::string& name) {
    for (auto& entry : tensors) {
      if (entry.first == name) return entry;
    }
    throw std::runtime_error("no tensor " + name);
  }

  void fails(int code, const fs::path& model, const Words& words) const {
    const Result r = draw({"a", "-s", "1", "-m", model.string(), "--outdir", "out"});
    EXPECT_EQ(r.code, code) << r.err;
    EXPECT_EQ(r.out, "");
    expect_words(r.err, words);
    EXPECT_TRUE(!fs::exists(folder_ / "out") || fs::is_empty(folder_ / "out"));
  }
};

constexpr const char* kVae = "vae/diffusion_pytorch_model.safetensors";
constexpr const char* kUNet = "unet/diffusion_pytorch_model.safetensors";

// ---- models -------------------------------------------------------------------------------------------------------

TEST_F(Trouble, NoModelThere) {
  fails(3, "/no/such/model", {"no model at /no/such/model"});
  make("notes.txt", "not a model");
  fails(3, folder_ / "notes.txt", {"notes.txt"});
  fs::create_directory(folder_ / "empty");
  fails(3, folder_ / "empty", {"no model_index.json"});
}

TEST_F(Trouble, TruncatedWeights) {
  const fs::path model = model_without(kUNet);
  const std::uintmax_t size = fs::file_size(kModel / kUNet);
  fs::copy_file(kModel / kUNet, model / kUNet);
  for (const std::uintmax_t kept : {size - 1, std::uintmax_t{0}}) {
    fs::resize_file(model / kUNet, kept);
    fails(3, model, {"diffusion_pytorch_model.safetensors"});
  }
  EXPECT_EQ(run({"a", "-m", model.string(), "--dry-run"}).code, 0) << "a dry run reads no weights";
}

TEST_F(Trouble, MissingTensor) {
  const fs::path model = model_with(kVae, [](Tensors& tensors) {
    std::erase_if(tensors, [](const auto& entry) { return entry.first == "decoder.conv_in.bias"; });
  });
  fails(3, model, {"decoder.conv_in.bias"});
}

TEST_F(Trouble, MisshapenTensor) {
  const fs::path model = model_with(
      kVae, [](Tensors& tensors) { find(tensors, "decoder.conv_in.bias").second = at::zeros({7}, at::kHalf); });
  fails(3, model, {"decoder.conv_in.bias", "[7]", "[96]"});
}

TEST_F(Trouble, UnexpectedTensor) {
  const fs::path model = model_with(
      kVae, [](Tensors& tensors) { tensors.emplace_back("decoder.nobody.weight", at::zeros({1}, at::kHalf)); });
  fails(3, model, {"decoder.nobody.weight"});
}

TEST_F(Trouble, WeightsThatAreNotNumbers) {
  const fs::path model =
      model_with(kVae, [](Tensors& tensors) { find(tensors, "decoder.conv_in.weight").second.view(-1)[5] = NAN; });
  fails(3, model, {"decoder.conv_in.weight"});
}

TEST_F(Trouble, PicturesThatAreNotNumbers) {
  const fs::path model = model_with(kUNet, [](Tensors& tensors) {
    Tensor& bias = find(tensors, "conv_out.bias").second;
    bias = at::full_like(bias.to(at::kFloat), 3e38);  // finite, but not what follows
  });
  const Result r = draw({"a", "-b", "2", "-m", model.string(), "--outdir", "out"});
  EXPECT_EQ(r.code, 5) << r.err;
  expect_words(r.err, {"picture 0: ", "not finite", "picture 1: ", "2 of 2 pictures failed"});
  EXPECT_TRUE(fs::is_empty(folder_ / "out"));
}

// ---- places -------------------------------------------------------------------------------------------------------

TEST_F(Trouble, FoldersThatCannotTakeAPicture) {
  make("file", "");
  const auto refuses = [&](const Words& output, const std::string& words) {
    Words arguments = {"a", "-s", "1"};
    arguments.insert(arguments.end(), output.begin(), output.end());
    const Result r = draw(arguments);
    EXPECT_EQ(r.code, 3) << r.err;
    expect_words(r.err, {words});
  };
  refuses({"-o", "missing/x.png"}, "there is no folder missing");
  refuses({"-o", "file/x.png"}, "file is not a folder");
  refuses({"--outdir", "file"}, "--outdir file");
  refuses({"-o", "/proc/x.png"}, "/proc/x.png");
}

TEST_F(Trouble, AFullDiskLeavesNothingBehind) {
  const Result r = draw({"a", "-o", "x.png"}, {.file_size = 1000});
  EXPECT_EQ(r.code, 3) << r.err;
  expect_words(r.err, {"x.png: cannot be written"});
  EXPECT_EQ(r.out, "");
  EXPECT_EQ(files(), Words{});
}

TEST_F(Trouble, StandardOutputThatTakesNothing) {
  const Result full = draw({"a", "-o", "-"}, {.output_file = "/dev/full"});
  EXPECT_EQ(full.code, 3);
  expect_words(full.err, {"standard output: cannot be written"});

  const Result broken = draw({"a", "-o", "broken.png"}, {.break_output = true});
  EXPECT_EQ(broken.code, 3);
  expect_words(broken.err, {"standard output", "EPIPE"});

  const Result closed = draw({"a", "-o", "closed.png"}, {.close_output = true});
  EXPECT_EQ(closed.code, 3);
  EXPECT_EQ(read_png(folder_ / "closed.png").width, 64) << "finished before its path could be told";
  EXPECT_EQ(bytes("closed.png").find("closed.png\n"), std::string::npos);

  EXPECT_EQ(run({"samplers"}, {.output_file = "/dev/full"}).code, 3);
}

// ---- signals and memory -------------------------------------------------------------------------------------------

TEST_F(Trouble, SignalsKeepWhatIsFinished) {
  for (const auto& [signal, code] : {std::pair(SIGINT, 130), std::pair(SIGTERM, 143)}) {
    const std::string outdir = "out" + std::to_string(code);
    Words arguments = {"a", "-s", "1", "-b", "1000", "--outdir", outdir};
    arguments.insert(arguments.end(), kSmall.begin(), kSmall.end());
    Program program(arguments, here());
    program.wait_for("00001-2.png\n");
    program.send(signal);
    const Result r = program.finish();
    EXPECT_EQ(r.code, code);
    const Words told = lines_of(r.out);
    expect_words(r.err, {"interrupted: " + std::to_string(told.size()) + " of 1000 pictures finished"});
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(folder_ / outdir)) {
      EXPECT_EQ(read_png(entry.path()).width, 64) << entry.path();
      ++count;
    }
    EXPECT_EQ(count, told.size());
  }
}

TEST_F(Trouble, TheSecondSignalEndsAtOnce) {
  Program program({"a", "--steps=50", "-W768", "-H768", "--dtype=f32", "--progress=json"}, here());
  program.wait_for("\"step\":1");
  program.send(SIGINT);
  std::this_thread::sleep_for(50ms);  // equal signals are not queued
  program.send(SIGINT);
  EXPECT_EQ(program.finish().signal, SIGINT);
  EXPECT_EQ(files(), Words{});
}

TEST_F(Trouble, AWaitForStandardInputIsInterrupted) {
  Program program({"-p", "-", "-v"}, here({.keep_input_open = true}));
  std::this_thread::sleep_for(500ms);
  program.send(SIGINT);
  const Result r = program.finish();
  EXPECT_TRUE(r.code == 130 || r.signal == SIGINT) << r.code;
}

TEST_F(Trouble, TooLittleMemory) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the address sanitizer needs all of the address space";
#endif
  const Result r = run({"a", "--steps=1", "-W4096", "-H4096", "--dtype=f32", "--device=cpu", "-t1"},
                       {.address_space = 1'000'000'000});
  EXPECT_EQ(r.code, 4) << r.err;
  expect_words(r.err, {"memory"});
  EXPECT_EQ(files(), Words{});
}

}  // namespace
}  // namespace easel::testing
