// batch: the pictures of a run, in order, and where each one goes.
#pragma once

#include "easel/pipeline.h"

namespace easel {

// ---- plans --------------------------------------------------------------------------------------------------------

// One picture of a run. `request` has its prompt and its seed.
struct Job {
  int64_t index;  // from 0 over the whole run
  Request request;
};

// Prompts × init pictures × count: for every pair anew, picture k has seed S + k. Jobs are made when asked for, so a
// plan of a million pictures costs no memory.
class Plan {
 public:
  // `common`: what all pictures share; its prompt is not looked at, its seed is S. Without a seed, `draw_seed` gives
  // one S a prompt. `init_imgs` may be empty. Adds a fault when S + count − 1 is past 2^64 − 1.
  Plan(Request common, std::vector<std::string> prompts, std::vector<std::string> init_imgs, int64_t count,
       const std::function<uint64_t()>& draw_seed, Faults& faults);

  int64_t size() const { return static_cast<int64_t>(prompts_.size()) * per_prompt(); }
  Job job(int64_t index) const;

  const std::vector<std::string>& prompts() const { return prompts_; }
  // S of each prompt.
  const std::vector<uint64_t>& seeds() const { return seeds_; }

 private:
  int64_t per_prompt() const { return std::max<int64_t>(1, static_cast<int64_t>(init_imgs_.size())) * count_; }

  Request common_;
  std::vector<std::string> prompts_, init_imgs_;
  std::vector<uint64_t> seeds_;
  int64_t count_;
};

// The pictures that `given` stands for: a file; those of a folder, in the order of their names; what a shell pattern
// matches. Adds a fault when there is none.
std::vector<std::string> picture_files(const std::string& given, const std::string& spelled, Faults& faults);

// ---- names --------------------------------------------------------------------------------------------------------

// The values behind a template's fields.
struct NameFacts {
  int64_t index = 0;
  uint64_t seed = 0;
  std::string prompt = {}, sampler = {}, model = {};
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
};

// Where the pictures of a run go. In this order: constructor, check_targets(), prepare(), write().
class Outputs {
 public:
  // Adds the faults that the options alone show.
  Outputs(OutputOptions options, int64_t pictures, Faults& faults);

  // Whether names depend on what only the opened checkpoint can say: {sampler}, {model}.
  bool needs_checkpoint() const;

  // Adds a fault for names that two pictures share, that exist (unless `overwrite`) or that no file can have.
  // `facts_of` gives the facts of picture i.
  void check_targets(const std::function<NameFacts(int64_t)>& facts_of, Faults& faults) const;

  // Makes --outdir. Throws Error(kFile) for a folder that is missing or cannot be written to.
  void prepare(const std::function<NameFacts(int64_t)>& facts_of);

  // The file appears whole or not at all. Returns its path. Throws Error(kFile).
  std::filesystem::path write(const NameFacts& facts, std::string_view bytes);

 private:
  std::filesystem::path path_of(const NameFacts& facts) const;

  OutputOptions options_;
  int64_t pictures_;
  Faults faults_;  // of the options alone
  NameTemplate template_;
  int64_t next_index_ = 0;  // of names without -o
};

}  // namespace easel
