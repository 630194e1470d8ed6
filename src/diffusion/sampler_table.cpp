#include <algorithm>
#include <cctype>

#include "diffusion/samplers.h"

namespace easel {

const std::vector<SamplerRow>& sampler_table() {
  using namespace diffusion;
  static const std::vector<SamplerRow> rows = {
      {.name = "ddpm",
       .aliases = {"DDPMScheduler"},
       .reference = "DDPMScheduler",
       .paper = "Ho et al. 2020, arXiv:2006.11239",
       .has_eta = false,
       .stochastic = true,
       .remark = "fixed_large_log, NaN in diffusers, is sqrt(beta)",
       .make = make_ddpm},
      {.name = "ddim",
       .aliases = {"DDIMScheduler", "k_ddim"},
       .reference = "DDIMScheduler",
       .paper = "Song et al. 2021, arXiv:2010.02502",
       .has_eta = true,
       .stochastic = false,
       .remark = "",
       .make = make_ddim},
      {.name = "pndm",
       .aliases = {"PNDMScheduler", "plms"},
       .reference = "PNDMScheduler",
       .paper = "Liu et al. 2022, arXiv:2202.09778",
       .has_eta = false,
       .stochastic = false,
       .remark = "x0 networks, refused by diffusers, run on eps",
       .make = make_pndm},
      {.name = "euler",
       .aliases = {"EulerDiscreteScheduler", "k_euler", "sample_euler"},
       .reference = "EulerDiscreteScheduler",
       .paper = "Karras et al. 2022, arXiv:2206.00364",
       .has_eta = false,
       .stochastic = false,
       .remark = "",
       .make = make_euler},
      {.name = "euler_a",
       .aliases = {"EulerAncestralDiscreteScheduler", "euler_ancestral", "k_euler_a", "k_euler_ancestral",
                   "sample_euler_ancestral"},
       .reference = "EulerAncestralDiscreteScheduler",
       .paper = "k-diffusion, Crowson 2022; Song et al. 2021, arXiv:2011.13456",
       .has_eta = false,
       .stochastic = true,
       .remark = "x0 networks, refused by diffusers, run as with euler",
       .make = make_euler_ancestral},
  };
  return rows;
}

namespace {

std::string normalised(std::string_view spelling) {
  std::string word;
  for (const char c : spelling) {
    if (c == ' ' || c == '-' || c == '_') continue;
    word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return word;
}

std::string names_of_rows() {
  std::vector<std::string> names;
  for (const SamplerRow& row : sampler_table()) names.push_back(row.name);
  return listed(names);
}

}  // namespace

const SamplerRow& find_sampler(std::string_view spelling) {
  const std::string word = normalised(spelling);
  std::vector<std::string> spellings;
  for (const SamplerRow& row : sampler_table()) {
    if (normalised(row.name) == word) return row;
    spellings.push_back(row.name);
    for (const std::string& alias : row.aliases) {
      if (normalised(alias) == word) return row;
      spellings.push_back(alias);
    }
  }
  throw Error(ErrorKind::kUsage,
              "unknown sampler '" + std::string(spelling) + "'; nearest: " + listed(nearest_names(spelling, spellings)),
              "samplers: " + names_of_rows());
}

const SamplerRow& sampler_of(const SchedulerConfig& config) {
  for (const SamplerRow& row : sampler_table()) {
    if (row.reference == config.class_name) return row;
  }
  const std::string where = config.where.empty() ? "scheduler_config.json" : config.where;
  throw Error(ErrorKind::kFile,
              config.class_name.empty() ? where + ": no _class_name says which sampler the model wants"
                                        : where + ": _class_name " + config.class_name + " is not supported",
              "choose one with --sampler: " + names_of_rows());
}

}  // namespace easel
