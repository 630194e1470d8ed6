#pragma once

namespace easel {

// What a kernel applies to its results before it writes them.
enum class Activation { kNone, kSilu };

}  // namespace easel
