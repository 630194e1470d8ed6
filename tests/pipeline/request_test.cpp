// The request table: every field from text and JSON, and back.
#include <gtest/gtest.h>

#include <set>

#include "easel/pipeline.h"

namespace easel {
namespace {

const RequestField& field(const std::string& name) {
  const RequestField* found = find_request_field(name);
  EXPECT_NE(found, nullptr) << name;
  return *found;
}

std::vector<std::string> faults_of_text(Request& request, const std::string& name, std::string_view text) {
  Faults faults;
  set_from_text(request, field(name), text, "--" + name, faults);
  return faults.list();
}

bool takes(const std::string& name, std::string_view text) {
  Request request;
  return faults_of_text(request, name, text).empty();
}

TEST(RequestTable, NamesAndAliasesAreUnique) {
  std::set<std::string> seen;
  for (const RequestField& f : request_fields()) {
    EXPECT_TRUE(seen.insert(f.name).second) << f.name;
    EXPECT_EQ(find_request_field(f.name), &f);
    for (const std::string& alias : f.aliases) {
      EXPECT_TRUE(seen.insert(alias).second) << alias;
      EXPECT_EQ(find_request_field(alias), &f) << alias;
    }
    EXPECT_FALSE(f.help.empty()) << f.name;
  }
  EXPECT_EQ(find_request_field("nonsense"), nullptr);
}

TEST(RequestTable, EveryFieldSurvivesJson) {
  Request request;
  Faults faults;
  for (const RequestField& f : request_fields()) {
    const std::string sample = !f.words.empty()                 ? f.words.front()
                               : f.multiple_of == 8             ? "64"
                               : f.form == TextForm::kSize      ? "136x88"
                               : f.form == TextForm::kPoint     ? "16,0"
                               : f.form == TextForm::kMargins   ? "16,0,25%,0"
                               : f.is_switch()                  ? "true"
                               : f.high == 1 || f.high == 0.999 ? "0.25"
                                                                : "7";
    set_from_text(request, f, sample, f.name, faults);
  }
  EXPECT_TRUE(faults.empty());
  const nlohmann::ordered_json first = to_json(request);
  EXPECT_EQ(first.size(), request_fields().size());
  Request again;
  for (const auto& [name, value] : first.items()) set_from_json(again, field(name), json(value), name, faults);
  EXPECT_TRUE(faults.empty());
  EXPECT_EQ(to_json(again), first);
}

TEST(RequestTable, UnsetAndEmptyNegativePromptsDiffer) {
  Request request;
  EXPECT_FALSE(to_json(request).contains("negative_prompt"));
  EXPECT_TRUE(faults_of_text(request, "negative_prompt", "").empty());
  EXPECT_EQ(to_json(request).at("negative_prompt"), "");
  Faults faults;
  set_from_json(request, field("negative_prompt"), nullptr, "x", faults);
  EXPECT_FALSE(request.negative_prompt);
}

TEST(RequestTable, Numbers) {
  for (const char* good : {"1", "20", "1000"}) EXPECT_TRUE(takes("steps", good)) << good;
  for (const char* bad :
       {"0", "-1", "1001", "20x", " 20", "20 ", "", "1e2", "2.0", "+5", "0x10", "99999999999999999999"})
    EXPECT_FALSE(takes("steps", bad)) << bad;
  for (const char* good : {"8", "512", "16384"}) EXPECT_TRUE(takes("width", good)) << good;
  for (const char* bad : {"0", "500", "4", "16392", "512px", "-512"}) EXPECT_FALSE(takes("width", bad)) << bad;
  for (const char* good : {"0", "7.5", "1", "1e2"}) EXPECT_TRUE(takes("cfg_scale", good)) << good;
  for (const char* bad : {"nan", "inf", "-1", "1001", "7,5", "", "seven"}) EXPECT_FALSE(takes("cfg_scale", bad)) << bad;
  for (const char* bad : {"-0.1", "1.01"}) EXPECT_FALSE(takes("eta", bad)) << bad;
}

TEST(RequestTable, SizesAndPlaces) {
  EXPECT_EQ(number_pair("1024x768", TextForm::kSize), (std::pair<int64_t, int64_t>{1024, 768}));
  EXPECT_EQ(number_pair("0,128", TextForm::kPoint), (std::pair<int64_t, int64_t>{0, 128}));
  for (const char* bad :
       {"", "1024", "1024x", "x768", "1024,768", "0x8", "-8x8", "8x8x8", "8 x8", "99999999x8", "1e2x8"})
    EXPECT_FALSE(takes("original_size", bad)) << bad;
  for (const char* bad : {"", "0", "0x0", "-1,0", "0,-1", "1,2,3", "0, 1", "99999999,0"})
    EXPECT_FALSE(takes("crop", bad)) << bad;
  Request request;
  EXPECT_EQ(faults_of_text(request, "target_size", "8").front(),
            "--target_size \"8\": expected a size in pixels, WIDTHxHEIGHT, as 1024x768");
}

TEST(RequestTable, SwitchesAndMargins) {
  for (const char* good : {"true", "false"}) EXPECT_TRUE(takes("invert_mask", good)) << good;
  for (const char* bad : {"", "1", "yes", "True"}) EXPECT_FALSE(takes("invert_mask", bad)) << bad;
  for (const char* good : {"0,0,128,0", "25%,0,25%,0", "1,2,3,4"}) EXPECT_TRUE(takes("outpaint", good)) << good;
  for (const char* bad : {"", "0,0,0,0", "1,2,3", "1,2,3,4,5", "-1,0,0,0", "1.5,0,0,0", "x", "1, 2,3,4", "0%,0,0,0"})
    EXPECT_FALSE(takes("outpaint", bad)) << bad;
  Request request;
  Faults faults;
  for (const json& bad : {json("true"), json(1), json::array()})
    set_from_json(request, field("mask_blur"), bad.is_number() ? json("1") : bad, "mask_blur", faults),
        set_from_json(request, field("invert_mask"), bad, "invert_mask", faults);
  EXPECT_EQ(faults.list().size(), 6u);
  EXPECT_FALSE(request.invert_mask);
}

TEST(RequestTable, Seeds) {
  Request request;
  EXPECT_TRUE(faults_of_text(request, "seed", "18446744073709551615").empty());
  EXPECT_EQ(request.seed, 18446744073709551615u);
  EXPECT_TRUE(faults_of_text(request, "seed", "0").empty());
  EXPECT_EQ(request.seed, 0u);
  for (const char* bad : {"18446744073709551616", "-1", "x", "1.5", "", "1e3"}) EXPECT_FALSE(takes("seed", bad)) << bad;
  EXPECT_EQ(request.seed, 0u) << "a fault leaves the field as it was";
  EXPECT_EQ(faults_of_text(request, "seed", "-1").front(),
            "--seed \"-1\": expected a whole number from 0 to 18446744073709551615; leave -s out for a random seed");
  Faults faults;
  set_from_json(request, field("seed"), "18446744073709551615", "seed", faults);
  set_from_json(request, field("seed"), 18446744073709551615u, "seed", faults);
  EXPECT_TRUE(faults.empty());
  set_from_json(request, field("seed"), -1, "seed", faults);
  set_from_json(request, field("seed"), 1.0, "seed", faults);
  EXPECT_EQ(faults.list().size(), 2u);
}

TEST(RequestTable, WordsAndUtf8) {
  Request request;
  EXPECT_EQ(faults_of_text(request, "dtype", "fp16").front(),
            "--dtype \"fp16\": expected auto, f32, f16, bf16 or int8");
  EXPECT_EQ(faults_of_text(request, "prompt", "a\xff").front(), "--prompt: not valid UTF-8 at byte 1");
  EXPECT_TRUE(takes("prompt", "푸른 하늘"));
  EXPECT_TRUE(takes("prompt", ""));
}

TEST(RequestTable, JsonTypesAreStrict) {
  for (const auto& [name, value] : std::vector<std::pair<std::string, json>>{{"steps", "20"},
                                                                             {"steps", 20.0},
                                                                             {"steps", true},
                                                                             {"prompt", 5},
                                                                             {"cfg_scale", "7"},
                                                                             {"width", 500},
                                                                             {"steps", 18446744073709551615u},
                                                                             {"prompt", json::array({"a"})}}) {
    Request request;
    Faults faults;
    set_from_json(request, field(name), value, name, faults);
    EXPECT_EQ(faults.list().size(), 1u) << name << " " << value;
  }
}

}  // namespace
}  // namespace easel
