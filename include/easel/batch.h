// batch: the pictures of a run, in order, and where each one goes.
#pragma once

#include <unordered_map>

#include "easel/pipeline.h"

namespace easel {

// ---- packing ------------------------------------------------------------------------------------------------------

// Puts pictures of one key together, in packs of up to `batch_size`. Which pictures share a pack follows from the keys
// in their order, the batch size and the window alone.
class Packer {
 public:
  // `window`: how many pictures may wait, at least the batch size.
  Packer(int64_t batch_size, int64_t window);

  void add(int64_t picture, const std::string& key);
  void remove(int64_t picture);
  bool is_empty() const { return waiting_.empty(); }
  bool is_full() const { return static_cast<int64_t>(waiting_.size()) >= window_; }
  // The pictures of the next pack, rising: the first key that has a whole batch; where nothing more comes before
  // (`flush`, a full window), as many as there are of the oldest picture's key. nullopt: more are wanted first.
  std::optional<std::vector<int64_t>> next(bool flush);

 private:
  std::vector<int64_t> take(const std::string& key);

  int64_t batch_size_, window_;
  std::map<int64_t, std::string> waiting_;  // by picture
  std::map<std::string, std::set<int64_t>> by_key_;
};

// The number of pictures a network call is fastest with, a picture, of 1, 2, 4, … up to `most`. `seconds_of` measures a
// call; nullopt: so many do not fit. Measuring ends when it took `budget` seconds or a larger number wins less than a
// twentieth.
int64_t best_batch_size(const std::function<std::optional<double>(int64_t pictures)>& seconds_of, int64_t most,
                        double budget);

// ---- pictures to begin with ---------------------------------------------------------------------------------------

// The pictures that `given` stands for: a file; those of a folder, in the order of their names; what a shell pattern
// matches. Adds a fault when there is none.
std::vector<std::string> picture_files(const std::string& given, const std::string& spelled, Faults& faults);

// ---- names --------------------------------------------------------------------------------------------------------

// The values behind a template's fields.
struct NameFacts {
  int64_t index = 0;
  uint64_t seed = 0;
  std::string prompt = {}, sampler = {}, model = {};
  std::string output = {};  // a template of the picture's own, in the run's place; its folders are made
};

// "{index}-{seed}.png", a path; fields: index (five digits and more, so that names sort), seed, prompt, prompt:N (a
// slug of at most N characters, 40 if not said), sampler, model.
class NameTemplate {
 public:
  // Adds a fault, with `spelled` ("-o") in front, for every field nobody knows and every brace that is not closed.
  NameTemplate(std::string_view text, const std::string& spelled, Faults& faults);

  std::string operator()(const NameFacts& facts) const;
  bool has(std::string_view field) const;

 private:
  struct Piece {
    std::string literal, field;  // the text, then the field after it; no field at the end
    int64_t limit = 0;           // of a prompt's slug
  };
  void add_field(std::string_view content, const std::string& spelled, Faults& faults);

  std::vector<Piece> pieces_;
};

// A prompt as a part of a file name: letters, marks and digits of any script, everything else as single '-', none at
// the ends; at most `limit` code points, cut between characters (grapheme clusters). "untitled" when nothing is left.
std::string slug(std::string_view prompt, int64_t limit);

// ---- outputs ------------------------------------------------------------------------------------------------------

struct OutputOptions {
  std::optional<std::string> output;  // a template; unset: {index}-{seed}.png at the folder's next free index
  std::optional<std::string> outdir;  // made if missing; a relative template is below it
  bool overwrite = false;
  // {index} counts from 0 without -o too, so that a run can be resumed: a file that is there already and holds the same
  // bytes is taken for written; `overwrite` is for those that hold others.
  bool resumable = false;
};

// Where the pictures of a run go. In this order: constructor, check_targets() or obstacle_of(), prepare(), write().
class Outputs {
 public:
  // Adds the faults that the options alone show.
  Outputs(OutputOptions options, int64_t pictures, Faults& faults);

  // Whether names depend on what only the opened checkpoint can say: {sampler}, {model}.
  bool needs_checkpoint() const;

  // Adds a fault for names that two pictures share, that exist (unless `overwrite`) or that no file can have.
  void check_targets(const std::vector<NameFacts>& pictures, Faults& faults) const;
  // The same of one picture as it comes, but for names that are shared; empty: nothing is in its way.
  std::string obstacle_of(const NameFacts& facts) const;

  // Makes --outdir. Throws Error(kFile) for a folder that is missing or cannot be written to; without `pictures`, for
  // the folder that all of them share. A resumable run removes what one that was killed left half-written.
  void prepare(const std::vector<NameFacts>& pictures);

  // The file appears whole or not at all. Returns its path. Throws Error(kFile); Error(kUsage) for a name that is
  // taken, or that an earlier picture of this run has got. `replace`: whatever is there, for a picture whose file is
  // known to be damaged.
  std::filesystem::path write(const NameFacts& facts, std::string_view bytes, bool replace = false);

 private:
  friend class TargetCheck;
  std::filesystem::path path_of(const NameFacts& facts) const;
  bool tells_apart(const NameFacts& facts) const;
  std::filesystem::path write_named(const NameFacts& facts, std::string_view bytes, bool replace);
  std::filesystem::path write_numbered(const NameFacts& facts, std::string_view bytes);

  OutputOptions options_;
  int64_t pictures_;
  Faults faults_;  // of the options alone
  NameTemplate template_;
  int64_t first_index_ = 0;            // of names without -o
  std::set<std::size_t> overwritten_;  // hashes of names without {index} that --overwrite has written to
};

// check_targets() of pictures that come one after another.
class TargetCheck {
 public:
  explicit TargetCheck(const Outputs& outputs) : outputs_(outputs) {}

  void add(const NameFacts& facts);
  void add_to(Faults& faults) const;
  // Pictures in all the folders (the first 1000), for prepare().
  const std::vector<NameFacts>& one_a_folder() const { return one_a_folder_; }

 private:
  void fault(const std::string& text);

  const Outputs& outputs_;
  std::unordered_map<std::size_t, int64_t> names_;  // by hash, where names have no {index}: who has it
  std::set<std::filesystem::path> folders_;
  std::vector<NameFacts> one_a_folder_;
  std::vector<std::string> shown_;
  std::size_t found_ = 0;
};

}  // namespace easel
