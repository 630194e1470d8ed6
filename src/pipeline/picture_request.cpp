#include "pipeline/picture_request.h"

#include <algorithm>
#include <cmath>

#include "pipeline/picture_input.h"
#include "pipeline/step_cache.h"

namespace easel {

namespace {

// AUTOMATIC1111's and diffusers' defaults; a picture's latent, enlarged, needs more work than the picture itself.
constexpr double kStrength = 0.75, kRepaintStrength = 1.0, kHiresStrength = 0.5, kLatentHiresStrength = 0.7;
constexpr int64_t kInpaintPadding = 32;
// How far from a whole multiple, in pixels, a side may come out of --hires: scales are typed with a few digits.
constexpr double kRounding = 0.1;

struct Size {
  int64_t width, height;
  bool operator==(const Size&) const = default;
};

std::string text_of(const Size& size) { return std::to_string(size.width) + "x" + std::to_string(size.height); }

// What -W, -H and the VAE know: all are powers of two.
int64_t multiple_of(const Checkpoint& c) { return std::max<int64_t>(8, c.vae.factor()); }

int64_t nearest_multiple(double pixels, int64_t multiple) {
  return std::max<int64_t>(multiple, std::llround(pixels / static_cast<double>(multiple)) * multiple);
}

Size size_of_picture(const std::string& file) {
  const auto [width, height] = picture_size(file);
  return {width, height};
}

// The picture with its outpainted margins.
Size canvas_size(const Request& r, const Size& picture, Faults& faults) {
  if (!r.outpaint) return picture;
  const auto margins =
      margins_of(*r.outpaint, static_cast<int>(picture.width), static_cast<int>(picture.height)).value_or(Margins{});
  const Size canvas = {picture.width + margins.left + margins.right, picture.height + margins.top + margins.bottom};
  if (canvas == picture) faults.add("--outpaint " + *r.outpaint + " adds nothing to " + text_of(picture));
  if (std::max(canvas.width, canvas.height) > kMaxPictureSide)
    faults.add("--outpaint " + *r.outpaint + ": a canvas of " + text_of(canvas) + " is too large, at most " +
               std::to_string(kMaxPictureSide) + " a side");
  return canvas;
}

// Width and height from the canvas; a missing one keeps its proportions. Nothing is rounded unless --resize or a side
// says that the picture may be changed.
void fill_size(Request& r, const Size& canvas, int64_t multiple, Faults& faults) {
  const auto w = static_cast<double>(canvas.width), h = static_cast<double>(canvas.height);
  const bool fits = canvas.width % multiple == 0 && canvas.height % multiple == 0;
  const Size nearest = {nearest_multiple(w, multiple), nearest_multiple(h, multiple)};
  if (!r.width && !r.height && !fits && !r.resize)
    faults.add((r.outpaint ? "--outpaint " + *r.outpaint + " gives a canvas of " : *r.init_img + " is ") +
               text_of(canvas) + ": this model draws multiples of " + std::to_string(multiple) +
               "; --resize fill cuts it to " + text_of(nearest) + ", -W and -H say another size");
  if (!r.width && !r.height) {
    r.width = fits ? canvas.width : nearest.width;
    r.height = fits ? canvas.height : nearest.height;
  }
  if (!r.width) r.width = nearest_multiple(w * static_cast<double>(*r.height) / h, multiple);
  if (!r.height) r.height = nearest_multiple(h * static_cast<double>(*r.width) / w, multiple);
  const bool fits_exactly = Size{*r.width, *r.height} == canvas;
  if (fits_exactly && !r.control_net)  // whose pictures may have other sizes
    r.resize.reset();
  else if (!fits_exactly && !r.resize)
    r.resize = "fill";
}

void fill_mask(Request& r, const Size& picture, Faults& faults) {
  if (!r.mask) return;
  const Size mask = size_of_picture(*r.mask);
  if (mask != picture)
    faults.add("--mask is " + text_of(mask) + ", the picture is " + text_of(picture) +
               ": a mask has its picture's size");
  if (!r.mask_blur) r.mask_blur = 0;
}

void fill_input(Request& r, const Checkpoint& c, Faults& faults) {
  if (!r.strength) r.strength = c.own_defaults.strength;
  if (!r.strength) r.strength = r.repaints() ? kRepaintStrength : kStrength;
  const Size picture = size_of_picture(*r.init_img);
  const Size canvas = canvas_size(r, picture, faults);
  fill_mask(r, picture, faults);
  if (!r.inpaint_full_res.value_or(false)) return fill_size(r, canvas, multiple_of(c), faults);
  if (!r.inpaint_padding) r.inpaint_padding = kInpaintPadding;
  if (!r.width) r.width = c.native_width();
  if (!r.height) r.height = c.native_height();
}

double to_four_digits(double value) { return std::round(value * 1e4) / 1e4; }

void fill_hires(Request& r, const Checkpoint& c, Faults& faults) {
  if (!r.width) r.width = c.own_defaults.width.value_or(c.native_width());
  if (!r.height) r.height = c.own_defaults.height.value_or(c.native_height());
  if (!r.hires_upscaler) r.hires_upscaler = "lanczos";
  if (!r.hires_strength) r.hires_strength = *r.hires_upscaler == "latent" ? kLatentHiresStrength : kHiresStrength;
  if (r.repaints()) faults.add("--hires draws over the whole picture: it does not go with --mask or --outpaint");
  if (c.takes_picture()) faults.add("--hires: an inpainting model draws no whole picture");
  const int64_t multiple = multiple_of(c);
  for (const auto& [flag, side] : {std::pair{"-W ", *r.width}, {"-H ", *r.height}}) {
    const double large = static_cast<double>(side) * *r.hires;
    const int64_t nearest = nearest_multiple(large, multiple);
    if (large > kMaxPictureSide)
      faults.add("--hires " + plain(*r.hires) + ": a side of " + plain(large) + " is too large, at most " +
                 std::to_string(kMaxPictureSide));
    else if (std::abs(large - static_cast<double>(nearest)) > kRounding)
      faults.add("--hires " + plain(*r.hires) + ": " + flag + std::to_string(side) + " becomes " +
                 plain(to_four_digits(large)) + ", expected a multiple of " + std::to_string(multiple) + "; " +
                 plain(to_four_digits(static_cast<double>(nearest) / static_cast<double>(side))) + " gives one");
  }
}

}  // namespace

void fill_picture(Request& r, const Checkpoint& c, Faults& faults) {
  if (r.init_img) fill_input(r, c, faults);
  if (r.hires) fill_hires(r, c, faults);
}

std::optional<Request> second_pass(const Request& r) {
  if (!r.hires) return std::nullopt;
  Request second = r;
  second.width = std::llround(static_cast<double>(*r.width) * *r.hires);
  second.height = std::llround(static_cast<double>(*r.height) * *r.hires);
  const std::string first_size = text_of({*r.width, *r.height}), size = text_of({*second.width, *second.height});
  for (auto* told : {&second.original_size, &second.target_size}) {
    if (*told == first_size) *told = size;  // the default: the picture's own
  }
  second.steps = r.hires_steps;
  second.strength = r.hires_strength;
  second.hires.reset();
  second.refiner_start.reset();
  second.init_img.reset();
  return second;
}

namespace {

struct Given {
  bool is_given;
  const char* field;
};

void needs(bool is_there, const std::string& needed, std::initializer_list<Given> fields, IdleFields& idle) {
  for (const Given& one : fields) {
    if (one.is_given && !is_there)
      idle.push_back({one.field, flag_of(*find_request_field(one.field)) + " has no effect without " + needed});
  }
}

void refuse_model(const Request& given, const Checkpoint& c, Faults& faults) {
  if (!c.takes_picture()) return;
  const std::string takes = c.path.string() + ": the U-Net takes " + std::to_string(c.unet.in_channels) + " channels: ";
  if (!c.is_inpainting())
    faults.add(takes + "an instruct-pix2pix model, which is not supported");
  else if (!given.init_img || !given.repaints())
    faults.add(takes + "an inpainting model, which draws into a picture: --init-img with --mask or --outpaint");
}

// TAESD's decoder by itself gives pictures, and takes none.
void refuse_without_encoder(const Request& r, const Checkpoint& c, Faults& faults) {
  const bool hires = r.hires && r.hires_upscaler.value_or("lanczos") != "latent";
  if (c.vae.has_encoder() || (!r.init_img && !hires)) return;
  const std::string file = c.other_vae->path.string();
  faults.add(
      std::string(r.init_img ? "--init-img" : "--hires") + " needs the VAE's encoder, and " + file +
      " is the decoder alone: put the encoder's file beside it, named alike with \"encoder\" in place of "
      "\"decoder\", or give --vae the folder that holds both (config.json, diffusion_pytorch_model.safetensors)" +
      (r.init_img ? "" : "; --hires-upscaler latent needs none"));
}

}  // namespace

void find_idle_picture_fields(const Request& r, IdleFields& idle) {
  const bool full_res = r.inpaint_full_res.value_or(false);
  needs(r.init_img.has_value() || r.control_net.has_value(), "--init-img or --control-net",
        {{r.resize.has_value(), "resize"}}, idle);
  needs(r.init_img.has_value(), "--init-img",
        {{r.strength.has_value(), "strength"}, {r.mask.has_value(), "mask"}, {r.outpaint.has_value(), "outpaint"}},
        idle);
  needs(r.mask.has_value(), "--mask",
        {{r.invert_mask.value_or(false), "invert_mask"}, {r.mask_blur.has_value(), "mask_blur"}}, idle);
  needs(r.repaints(), "--mask or --outpaint",
        {{full_res, "inpaint_full_res"}, {r.no_paste_back.value_or(false), "no_paste_back"}}, idle);
  needs(full_res, "--inpaint-full-res", {{r.inpaint_padding.has_value(), "inpaint_padding"}}, idle);
  needs(r.hires.has_value(), "--hires",
        {{r.hires_upscaler.has_value(), "hires_upscaler"},
         {r.hires_steps.has_value(), "hires_steps"},
         {r.hires_strength.has_value(), "hires_strength"}},
        idle);
  needs(r.control_net.has_value(), "--control-net",
        {{r.control_image.has_value(), "control_image"},
         {r.control_strength.has_value(), "control_strength"},
         {r.control_start.has_value(), "control_start"},
         {r.control_end.has_value(), "control_end"},
         {r.control_guess.value_or(false), "control_guess"},
         {r.canny.value_or(false), "canny"}},
        idle);
  needs(r.canny.value_or(false), "--canny",
        {{r.canny_low.has_value(), "canny_low"}, {r.canny_high.has_value(), "canny_high"}}, idle);
  if (!full_res || !r.repaints()) return;
  if (r.no_paste_back.value_or(false))
    idle.push_back(
        {"no_paste_back", "--no-paste-back has no effect with --inpaint-full-res: its crop is always pasted back"});
  if (r.resize)
    idle.push_back({"resize", "--resize has no effect with --inpaint-full-res: the crop has the shape of -W and -H"});
}

void refuse_pictures(const Request& r, const Checkpoint& c, Faults& faults) {
  if (r.mask && r.outpaint) faults.add("--mask and --outpaint exclude each other: outpainting has its own mask");
  if (r.vae_tiling.value_or(false) && r.vae_tiling_fast.value_or(false))
    faults.add("--vae-tiling and --vae-tiling-fast exclude each other");
  refuse_step_cache(r, c.unet, faults);
  refuse_model(r, c, faults);
  refuse_without_encoder(r, c, faults);
  if (c.refiner) refuse_model(r, *c.refiner, faults);
}

}  // namespace easel
