// Files that torch.save wrote, in every form, against the tensors that went in (scripts/golden/pickles.py).
#include "weights/torch_containers.h"
#include "weights/torch_files.h"
#include "weights/torch_names.h"

namespace easel {
namespace {

using namespace testing;

const fs::path kData = fs::path(EASEL_TEST_DATA) / "pickles";

class TorchFiles : public ::testing::TestWithParam<const char*> {};

TEST_P(TorchFiles, HoldWhatWasSaved) {
  const SourcePtr source = open_torch_file(kData / (GetParam() + ".pt"s));
  const SourcePtr expected = open_safetensors(kData / (GetParam() + ".safetensors"s));
  ASSERT_EQ(source->names(), expected->names());
  for (const std::string& name : expected->names()) {
    SCOPED_TRACE(name);
    const Tensor tensor = source->load(name), reference = expected->load(name);
    EXPECT_EQ(source->info(name)->shape, reference.sizes().vec());
    EXPECT_EQ(source->info(name)->dtype, reference.scalar_type());
    EXPECT_EQ(tensor.sizes(), reference.sizes());
    ASSERT_EQ(tensor.scalar_type(), reference.scalar_type());
    ASSERT_TRUE(tensor.is_contiguous());
    ASSERT_EQ(tensor.nbytes(), reference.nbytes());
    if (tensor.nbytes() > 0) {
      EXPECT_EQ(std::memcmp(tensor.const_data_ptr(), reference.const_data_ptr(), tensor.nbytes()), 0);
    }
    source->drop_pages(name);
    EXPECT_EQ(source->load(name).nbytes(), reference.nbytes());
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, TorchFiles,
                         ::testing::Values("protocol2", "protocol3", "protocol4", "protocol5", "torch16", "rezipped",
                                           "stream2", "stream4", "dtypes", "stream-dtypes", "views", "stream-views",
                                           "unsigned", "parameters", "lightning", "lightning4", "textual-inversion",
                                           "textual-inversion-webui", "hypernetwork"),
                         [](const auto& row) {
                           std::string name = row.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(TorchFile, EveryGoldenFileIsRead) {
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(kData)) files += entry.path().extension() == ".safetensors" ? 1 : 0;
  EXPECT_EQ(files, 19u) << "a file without a row above";
}

TEST(TorchFile, WordsAndNumbersBesideTheTensors) {
  const std::map<std::string, std::string> expected = {
      {"epoch", "3"},     {"global_step", "875000"}, {"pytorch-lightning_version", "1.4.2"},
      {"loss", "0.125"},  {"numpy_loss", "1.5"},     {"big", "1099511627776"},
      {"negative", "-5"}, {"done", "true"}};
  EXPECT_EQ(open_torch_file(kData / "lightning.pt")->metadata(), expected);
  EXPECT_EQ(open_torch_file(kData / "lightning4.pt")->metadata(), expected);
  EXPECT_EQ(open_torch_file(kData / "textual-inversion-webui.pt")->metadata(),
            (std::map<std::string, std::string>{{"name", "cat"}, {"step", "500"}}));
}

TEST(TorchFile, StoredTensorsAreNotCopied) {
  const SourcePtr source = open_torch_file(kData / "views.pt");
  const auto address = [&](const char* name) {
    return reinterpret_cast<std::uintptr_t>(source->load(name).data_ptr());
  };
  EXPECT_EQ(address("base"), address("base"));
  EXPECT_EQ(address("row"), address("base") + 2 * 6 * sizeof(float));
  EXPECT_NE(address("transposed"), address("base")) << "a transposed view has to be copied to be contiguous";
  EXPECT_EQ(source->files(), std::vector<fs::path>{kData / "views.pt"});
}

TEST(TorchFile, TensorsOutliveTheSource) {
  SourcePtr source = open_torch_file(kData / "views.pt");
  const Tensor last = source->load("last");
  source.reset();
  EXPECT_EQ(last.item<float>(), -77);
}

struct Refused {
  const char *file, *message;
};

TEST(TorchFile, WhatTorchSavesAndWeightsAreNot) {
  for (const Refused& row : std::vector<Refused>{
           {"refused-sparse.pt", "_sparse_tensor: sparse tensors are not supported"},
           {"refused-quantised.pt", "torch._utils._rebuild_qtensor: quantised tensors are not supported"},
           {"refused-module.pt", "torch.nn.modules.container.Sequential is refused"},
           {"refused-expanded.pt", "tensor of size [1000] repeats the elements of its storage of 1"},
           {"refused-bare.pt", "expected a dict of tensors, got a tensor"},
           {"refused-meta.pt", "torch._utils._rebuild_meta_tensor_no_storage: it holds tensors without values"},
           {"refused-conjugate.pt", "tensors with a conjugate or negative bit are not supported"},
           {"refused-protocol1.pt", "opcode INT is refused"},
           {"refused-torchscript.pt", "a TorchScript program, not a file of weights"},
       }) {
    const std::string said = message([&] { open_torch_file(kData / row.file); });
    EXPECT_TRUE(said.starts_with((kData / row.file).string() + ": ")) << said;
    expect_has(said, row.message);
  }
  const SourcePtr eight_bit = open_torch_file(kData / "float8.pt");
  EXPECT_EQ(eight_bit->info("a")->dtype, at::kFloat8_e4m3fn);
  expect_has(message([&] { eight_bit->load("a"); }), "tensor a is F8_E4M3, which is not supported");
}

// Hand-made forms that today's torch does not write.
TEST(TorchFile, OlderWriters) {
  const Folder folder;
  const auto sum = [&](const std::string& bytes) {
    return open_torch_file(folder.write("file", bytes))->load("a").sum().item<float>();
  };
  const std::string word = "U\x01"s + "a";  // str of Python 2
  const std::string python2 =
      kProto + call(global("collections", "OrderedDict"), list(list(word + tensor()) + "q\x07")) + kStop;
  EXPECT_EQ(sum(stream(python2)), 3);
  const std::string before_hooks = call(global("torch._utils", "_rebuild_tensor"),
                                        storage("FloatStorage", "0", 2) + number(0) + numbers({2}) + numbers({1}));
  EXPECT_EQ(sum(stream(holding(before_hooks))), 3);
  const std::string stream_id =
      tuple(text("storage") + global("torch", "FloatStorage") + text("0") + text("cuda:1") + number(2) + kNone) + "Q";
  const std::string with_view = call(global("torch._utils", "_rebuild_tensor_v2"),
                                     stream_id + number(0) + numbers({2}) + numbers({1}) + kFalse + kOrderedDict);
  EXPECT_EQ(sum(stream(holding(with_view))), 3);
}

TEST(TorchFile, Zip64) {
  const Folder folder;
  const std::string sizes = little<uint16_t>(1) + little<uint16_t>(24) + little<uint64_t>(8) + little<uint64_t>(8);
  Zip file;
  file.add(checkpoint(holding(tensor()))[0]);
  Entry entry = checkpoint("")[1];
  entry.extra = "FB"s + little<uint16_t>(2) + "ZZ" + sizes + little<uint64_t>(file.entries.size());
  entry.size = entry.stored = entry.local_offset = entry.local_size = 0xFFFFFFFF;
  file.add(entry);
  EXPECT_EQ(open_torch_file(folder.write("file", file.bytes()))->load("a").sum().item<float>(), 3);
}

// Every cut of a good file is refused; with any byte changed it is refused or read, never a crash. In memory: opening
// thousands of files takes a minute.
TEST(TorchFile, CutsAndChanges) {
  // The sum of all bytes of all tensors.
  const auto read = [](const std::string& bytes) {
    const auto object = bytes.starts_with("PK") ? read_torch_zip(bytes, "file") : read_torch_stream(bytes, "file");
    unsigned sum = 0;
    for (const auto& [name, tensor] : torch_contents(object, "file").tensors) {
      for (const char byte : tensor.data) sum += static_cast<unsigned char>(byte);
    }
    return sum;
  };
  for (const char* name : {"parameters.pt", "stream4.pt", "lightning.pt"}) {
    const std::string good = read_bytes(kData / name);
    const unsigned sum = read(good);
    for (std::size_t size = 0; size < good.size(); ++size)
      EXPECT_THROW(read(good.substr(0, size)), Error) << name << " " << size;
    int refused = 0, other = 0;
    for (std::size_t i = 0; i < good.size(); ++i) {
      std::string bytes = good;
      bytes[i] = static_cast<char>(bytes[i] ^ (i % 2 ? 0xFF : 0x01));
      try {
        other += read(bytes) != sum ? 1 : 0;
      } catch (const Error&) {
        ++refused;
      }
    }
    EXPECT_GT(refused, 200) << name;
    EXPECT_GT(other, 10) << name;  // the bytes of the tensors themselves
  }
}

}  // namespace
}  // namespace easel
