// The main() of the rooms below the pipeline, which calls them without autograd.
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const c10::InferenceMode guard;
  return RUN_ALL_TESTS();
}
