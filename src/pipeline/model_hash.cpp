// SHA-256 of weights files, remembered between runs by path, size and modification time.
#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "pipeline/loras.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

struct DigestDeleter {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    TORCH_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1, "SHA-256 is not available");
  }
  void update(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  std::string hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_DigestFinal_ex(context_.get(), digest, &size);
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (unsigned i = 0; i < size; ++i) text += {kDigits[digest[i] >> 4], kDigits[digest[i] & 15]};
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, DigestDeleter> context_;
};

std::string sha256_of_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw Error(ErrorKind::kFile, file.string() + ": cannot be read");
  std::vector<char> block(1 << 20);
  Sha256 hash;
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())), in.gcount() > 0) {
    check_interrupted();  // gigabytes from a cold disk are not to be waited for
    hash.update({block.data(), static_cast<std::size_t>(in.gcount())});
  }
  return hash.hex();
}

// ---- the cache: one small file a weights file, so that runs side by side cannot spoil each other's -----------------

std::optional<fs::path> cache_folder() {
  const auto set = [](const char* name) -> const char* {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : nullptr;
  };
  if (const char* own = set("EASEL_CACHE")) return fs::path(own) / "hashes";
  if (const char* xdg = set("XDG_CACHE_HOME")) return fs::path(xdg) / "easel/hashes";
  if (const char* home = set("HOME")) return fs::path(home) / ".cache/easel/hashes";
  return std::nullopt;
}

// "PATH SIZE MTIME" in nanoseconds; empty when the file is not there.
std::string identity(const fs::path& file) {
  struct stat status = {};
  std::error_code error;
  const std::string path = fs::canonical(file, error).string();
  if (error || stat(path.c_str(), &status) != 0) return "";
  return path + "\n" + std::to_string(status.st_size) + "\n" + std::to_string(status.st_mtim.tv_sec) + "." +
         std::to_string(status.st_mtim.tv_nsec);
}

std::string cached_sha256(const fs::path& file) {
  const std::string id = identity(file);
  const std::optional<fs::path> folder = cache_folder();
  if (id.empty() || !folder) return sha256_of_file(file);
  Sha256 name;
  name.update(id);
  const fs::path entry = *folder / name.hex();
  std::string hash;
  if (std::ifstream(entry) >> hash && hash.size() == 64) return hash;
  hash = sha256_of_file(file);
  std::error_code error;
  fs::create_directories(*folder, error);
  try {
    write_file_atomically(entry, hash + "\n", /*overwrite=*/true);
  } catch (const Error& fault) {  // a read-only home is no reason to fail
    log::verbose(std::string("model hash not cached: ") + fault.what());
  }
  return hash;
}

}  // namespace

namespace {

std::string hash_of_parts(const Checkpoint& c, bool prefer_half) {
  if (c.single_file) return cached_sha256(c.path);
  std::set<std::string> lines;
  for (const Part part : parts_of(c)) {
    if (part == Part::kVae && c.other_vae) continue;
    for (const fs::path& file : open_weights(c, part, prefer_half)->files())
      lines.insert(file.lexically_relative(c.path).generic_string() + ", " + cached_sha256(file) + "\n");
  }
  Sha256 hash;
  for (const std::string& line : lines) hash.update(line);
  return hash.hex();
}

// Of one file its own, as of a single file.
std::string hash_of_files(std::vector<fs::path> files) {
  Sha256 hash;
  if (files.size() == 1) return cached_sha256(files.front());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) hash.update(file.filename().string() + ", " + cached_sha256(file) + "\n");
  return hash.hex();
}

// A folder by its full-precision files where it has both: half precision is made of them.
std::string hash_of_control(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return cached_sha256(path);
  return hash_of_files(open_part(path, "diffusion_pytorch_model", /*prefer_half=*/false)->files());
}

}  // namespace

ModelHashes model_hashes(const Checkpoint& c, bool prefer_half) {
  ModelHashes hashes;
  hashes.model = hash_of_parts(c, prefer_half);
  if (c.other_vae) hashes.vae = hash_of_files(open_weights(c, Part::kVae, prefer_half)->files());
  if (c.refiner) hashes.refiner = hash_of_parts(*c.refiner, prefer_half);
  return hashes;
}

std::string adapter_name(const fs::path& path) {
  std::error_code error;
  const fs::path clean = (path / "").parent_path();  // without a trailing slash
  return fs::is_directory(path, error) ? clean.filename().string() : clean.stem().string();
}

void add_adapter_hashes(ModelHashes& hashes, const Request& resolved) {
  for (const LoraChoice& lora : loras_of(resolved)) hashes.loras[lora.file.stem().string()] = cached_sha256(lora.file);
  if (!resolved.control_net) return;
  for (const std::string& path : *resolved.control_net) hashes.controls[adapter_name(path)] = hash_of_control(path);
}

}  // namespace easel
