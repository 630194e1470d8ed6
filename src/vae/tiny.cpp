// diffusers' AutoencoderTiny: Ollin Boer Bohan's TAESD, a plain convolutional network without norms.
#include "vae/networks.h"
#include "vae/rows.h"

namespace easel {

namespace {

Tensor rectified(Tensor x) { return at::relu_(x); }

// AutoencoderTinyBlock of one width, which has no `skip`.
struct TinyBlock {
  Conv2d conv_0, conv_2, conv_4;
  TinyBlock(const Weights& w, int64_t channels)
      : conv_0(w / "conv" / 0, {.in = channels, .out = channels}),
        conv_2(w / "conv" / 2, {.in = channels, .out = channels}),
        conv_4(w / "conv" / 4, {.in = channels, .out = channels}) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor h = rectified(conv_2(rectified(conv_0(x))));
    return rectified(conv_4(h, {.shift = {}, .residual = x}));
  }
};

Rows in_rows(const TinyBlock& block, Rows x) {
  constexpr int64_t kReach = 3;  // a row for each convolution
  return local(block, std::move(x), kReach);
}

// The layers of a level: the encoder's convolution comes before its blocks, the decoder's after them.
struct TinyLevel {
  std::vector<TinyBlock> blocks;
  Conv2d conv;
};

// ---- decoder ------------------------------------------------------------------------------------------------------

// DecoderTiny. Of all levels but the last, `conv` sees its input at twice the size.
struct TinyDecoder : VaeDecoderNetwork {
  Conv2d conv_in;
  std::vector<TinyLevel> levels;

  TinyDecoder(const Weights& root, const VaeSpec& s)
      : conv_in(root / "decoder" / "layers" / 0, {.in = s.latent_channels, .out = s.tiny->decoder_channels}) {
    const Weights layers = root / "decoder" / "layers";
    const int64_t channels = s.tiny->decoder_channels;
    const auto& counts = s.tiny->num_decoder_blocks;
    int64_t next = 2;  // 1 is the activation
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const bool is_last = i + 1 == counts.size();
      std::vector<TinyBlock> blocks;
      for (int64_t k = 0; k < counts[i]; ++k) blocks.emplace_back(layers / next++, channels);
      if (!is_last) ++next;  // nn.Upsample
      const Conv2d::Shape2d shape = {
          .in = channels, .out = is_last ? s.out_channels : channels, .has_bias = is_last ? Bias::kYes : Bias::kNo};
      levels.push_back({std::move(blocks), Conv2d(layers / next++, shape)});
    }
  }

  Tensor first(const Tensor& latent) const {
    const Tensor clamped = at::tanh(latent / 3).mul_(3);
    return rectified(conv_in(clamped.contiguous(at::MemoryFormat::ChannelsLast)));
  }
  // TAESD's pictures are in [0, 1].
  static Tensor last(Tensor picture) { return picture.mul_(2).sub_(1); }

  Tensor operator()(const Tensor& latent) const override {
    Tensor x = first(latent);
    for (const TinyLevel& level : levels) {
      for (const TinyBlock& block : level.blocks) x = block(x);
      const bool is_last = &level == &levels.back();
      x = is_last ? level.conv(x) : level.conv.upsampled(x, 2 * x.size(2), 2 * x.size(3));
    }
    return last(std::move(x));
  }

  Tensor in_strips(const Tensor& latent, int64_t strip_bytes) const override {
    const Tensor x = first(latent);
    Rows rows = whole(x);
    int64_t width = x.size(3), strip = 0;
    for (const TinyLevel& level : levels) {
      strip = strip_of(x, width, x.size(1), strip_bytes);
      for (const TinyBlock& block : level.blocks) rows = stored(in_rows(block, rows), strip);
      const bool is_last = &level == &levels.back();
      rows = is_last ? convolved(level.conv, rows) : upsampled(level.conv, rows);
      width *= 2;
    }
    return last(gathered(rows, strip));
  }
};

// ---- encoder ------------------------------------------------------------------------------------------------------

// EncoderTiny. Of all levels but the first, `conv` halves the size.
struct TinyEncoder : VaeEncoderNetwork {
  std::vector<TinyLevel> levels;
  std::optional<Conv2d> conv_out;

  TinyEncoder(const Weights& root, const VaeSpec& s) {
    TORCH_CHECK(s.has_encoder(), "an AutoencoderTiny without its encoder");
    const Weights layers = root / "encoder" / "layers";
    const int64_t channels = s.tiny->encoder_channels;
    int64_t next = 0;
    for (const int64_t count : s.tiny->num_encoder_blocks) {
      const Conv2d::Shape2d shape =
          next == 0 ? Conv2d::Shape2d{.in = s.in_channels, .out = channels}
                    : Conv2d::Shape2d{.in = channels, .out = channels, .stride = 2, .has_bias = Bias::kNo};
      TinyLevel& level = levels.emplace_back(TinyLevel{{}, Conv2d(layers / next, shape)});
      ++next;
      for (int64_t k = 0; k < count; ++k) level.blocks.emplace_back(layers / next++, channels);
    }
    conv_out.emplace(layers / next, Conv2d::Shape2d{.in = channels, .out = s.latent_channels});
  }

  // In [0, 1], as TAESD takes them.
  static Tensor first(const Tensor& picture) {
    return picture.add(1).div_(2).contiguous(at::MemoryFormat::ChannelsLast);
  }

  LatentPosterior operator()(const Tensor& picture) const override {
    Tensor x = first(picture);
    for (const TinyLevel& level : levels) {
      x = level.conv(x);
      for (const TinyBlock& block : level.blocks) x = block(x);
    }
    return {(*conv_out)(x), {}};
  }

  LatentPosterior in_strips(const Tensor& picture, int64_t strip_bytes) const override {
    const Tensor x = first(picture);
    Rows rows = whole(x);
    int64_t width = x.size(3), strip = 0;
    for (const TinyLevel& level : levels) {
      const bool is_first = &level == &levels.front();
      if (!is_first) width /= 2;
      strip = strip_of(x, width, level.conv.out, strip_bytes);
      rows = is_first ? convolved(level.conv, rows) : halved(level.conv, rows);
      for (const TinyBlock& block : level.blocks) rows = stored(in_rows(block, rows), strip);
    }
    return {gathered(convolved(*conv_out, rows), strip), {}};
  }
};

}  // namespace

std::unique_ptr<VaeDecoderNetwork> tiny_decoder(const Weights& root, const VaeSpec& spec) {
  return std::make_unique<TinyDecoder>(root, spec);
}
std::unique_ptr<VaeEncoderNetwork> tiny_encoder(const Weights& root, const VaeSpec& spec) {
  return std::make_unique<TinyEncoder>(root, spec);
}

}  // namespace easel
