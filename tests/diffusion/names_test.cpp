// The tables: every spelling finds its row; unknown ones the nearest.
#include <set>

#include "diffusion/sampling.h"
#include "diffusion/schedule_spec.h"

namespace easel {
namespace {

TEST(Table, EverySpellingFindsItsRow) {
  std::set<std::string> seen;
  for (const SamplerRow& row : sampler_table()) {
    EXPECT_TRUE(seen.insert(row.name).second) << row.name;
    EXPECT_EQ(&find_sampler(row.name), &row);
    for (const std::string& alias : row.aliases) {
      EXPECT_TRUE(seen.insert(alias).second) << alias;
      EXPECT_EQ(&find_sampler(alias), &row) << alias;
    }
    EXPECT_FALSE(row.paper.empty());
    EXPECT_GE(row.order, 1);
    EXPECT_TRUE(row.has_eta || row.default_eta == 0) << row.name;
  }
}

TEST(Table, EveryScheduleFindsItsRow) {
  std::set<std::string> seen;
  for (const ScheduleRow& row : schedule_table()) {
    EXPECT_TRUE(seen.insert(row.name).second) << row.name;
    EXPECT_EQ(&find_schedule(row.name), &row);
    for (const std::string& alias : row.aliases) EXPECT_EQ(&find_schedule(alias), &row) << alias;
  }
  EXPECT_EQ(find_schedule("SGM Uniform").name, "sgm_uniform");
  EXPECT_EQ(find_schedule("Align Your Steps").name, "ays");
  EXPECT_EQ(find_schedule("Automatic").name, "model");
}

TEST(Table, SpellingsOfOtherPrograms) {
  const std::vector<std::pair<std::string, std::string>> spellings = {// stable-diffusion.cpp
                                                                      {"euler", "euler"},
                                                                      {"euler_a", "euler_a"},
                                                                      {"heun", "heun"},
                                                                      {"dpm2", "dpm2"},
                                                                      {"dpm++2s_a", "dpm++2s_a"},
                                                                      {"dpm++2m", "dpm++2m"},
                                                                      {"ipndm", "ipndm"},
                                                                      {"lcm", "lcm"},
                                                                      {"tcd", "tcd"},
                                                                      {"ddim", "ddim"},
                                                                      // A1111
                                                                      {"Euler a", "euler_a"},
                                                                      {"DPM++ 2M", "dpm++2m"},
                                                                      {"DPM++ SDE", "dpm++sde"},
                                                                      {"DPM++ 2M SDE", "dpm++2m_sde"},
                                                                      {"DPM++ 3M SDE", "dpm++3m_sde"},
                                                                      {"DPM++ 2S a", "dpm++2s_a"},
                                                                      {"DPM2 a", "dpm2_a"},
                                                                      {"LMS", "lms"},
                                                                      {"PLMS", "pndm"},
                                                                      {"UniPC", "unipc"},
                                                                      {"Restart", "restart"},
                                                                      // ComfyUI, k-diffusion
                                                                      {"dpmpp_2m", "dpm++2m"},
                                                                      {"dpmpp_2m_sde_gpu", "dpm++2m_sde"},
                                                                      {"dpmpp_3m_sde", "dpm++3m_sde"},
                                                                      {"dpmpp_sde", "dpm++sde"},
                                                                      {"dpm_2_ancestral", "dpm2_a"},
                                                                      {"uni_pc_bh2", "unipc"},
                                                                      {"sa_solver", "sa_solver"},
                                                                      {"euler_ancestral", "euler_a"},
                                                                      {"sample_dpmpp_2s_ancestral", "dpm++2s_a"},
                                                                      {"sample_heun", "heun"},
                                                                      // InvokeAI
                                                                      {"k_dpmpp_2m", "dpm++2m"},
                                                                      {"k_euler_a", "euler_a"},
                                                                      {"k_lms", "lms"},
                                                                      {"kdpm_2", "dpm2"},
                                                                      {"k_dpm_2_a", "dpm2_a"},
                                                                      {"deis", "deis"},
                                                                      {"dpmpp_2s", "dpm++2s"},
                                                                      // diffusers
                                                                      {"DPMSolverMultistepScheduler", "dpm++2m"},
                                                                      {"KDPM2AncestralDiscreteScheduler", "dpm2_a"}};
  for (const auto& [spelling, name] : spellings) {
    EXPECT_EQ(find_sampler(spelling).name, name) << spelling;
    const SamplerChoice choice = choose_sampler(spelling);
    EXPECT_EQ(choice.sampler.name, name) << spelling;
    EXPECT_EQ(choice.schedule, nullptr) << spelling;
  }
}

TEST(Table, NamesThatChooseASamplerAndASchedule) {
  const std::vector<std::vector<std::string>> spellings = {{"DPM++ 2M Karras", "dpm++2m", "karras"},
                                                           {"DPM++ 2M SDE Exponential", "dpm++2m_sde", "exponential"},
                                                           {"DPM++ 2S a Karras", "dpm++2s_a", "karras"},
                                                           {"LMS Karras", "lms", "karras"},
                                                           {"euler_k", "euler", "karras"},
                                                           {"dpmpp_2m_sde_k", "dpm++2m_sde", "karras"},
                                                           {"Euler SGM Uniform", "euler", "sgm_uniform"},
                                                           {"DPM++ 2M Align Your Steps", "dpm++2m", "ays"},
                                                           {"Heun beta", "heun", "beta"}};
  for (const auto& words : spellings) {
    const SamplerChoice choice = choose_sampler(words[0]);
    EXPECT_EQ(choice.sampler.name, words[1]) << words[0];
    ASSERT_NE(choice.schedule, nullptr) << words[0];
    EXPECT_EQ(choice.schedule->name, words[2]) << words[0];
  }
}

TEST(Table, UnknownNamesSuggestTheNearest) {
  expect_error(ErrorKind::kUsage, {"'eulr'", "euler", "ddpm, ddim"}, [] { find_sampler("eulr"); });
  expect_error(ErrorKind::kUsage, {"'dpm++2m karas'", "dpm++2m"}, [] { choose_sampler("dpm++2m karas"); });
  expect_error(ErrorKind::kUsage, {"unknown sampler"}, [] { choose_sampler("karras"); });
  expect_error(ErrorKind::kUsage, {"'karas'", "karras", "schedules: model"}, [] { find_schedule("karas"); });
}

TEST(Table, AFilesClassFindsItsRow) {
  const auto name = [](const json& fields) { return sampler_of(config_of(fields)).name; };
  for (const SamplerRow& row : sampler_table()) {
    if (diffusion::class_defaults(row.reference).is_null()) continue;  // of another tool
    const SamplerRow& found = sampler_of(config_of({{"_class_name", row.reference}}));
    EXPECT_EQ(found.reference, row.reference);
    EXPECT_NO_THROW(found.make(config_of({{"_class_name", row.reference}}), {}));
  }
  const json multistep = {{"_class_name", "DPMSolverMultistepScheduler"}, {"solver_order", 3}};
  json sde = multistep;
  sde["algorithm_type"] = "sde-dpmsolver++";
  EXPECT_EQ(name(multistep), "dpm++3m");
  EXPECT_EQ(name(sde), "dpm++3m_sde");
  EXPECT_EQ(name({{"_class_name", "UniPCMultistepScheduler"}, {"solver_type", "bh1"}}), "unipc_bh1");
  expect_error(ErrorKind::kFile, {"_class_name", "--sampler"}, [] { sampler_of(config_of(json::object())); });
  expect_error(ErrorKind::kFile, {"IPNDMScheduler", "not supported", "--sampler"}, [] {
    sampler_of(config_of({{"_class_name", "IPNDMScheduler"}}));
  });
  const json old_solver = {{"_class_name", "DPMSolverMultistepScheduler"}, {"algorithm_type", "dpmsolver"}};
  expect_error(ErrorKind::kFile, {"algorithm_type", "\"dpmsolver\"", "--sampler"},
               [&] { sampler_of(config_of(old_solver)); });
  expect_error(ErrorKind::kFile, {"solver_order 1"}, [] {
    sampler_of(config_of({{"_class_name", "DPMSolverSinglestepScheduler"}, {"solver_order", 1}}));
  });
}

}  // namespace
}  // namespace easel
