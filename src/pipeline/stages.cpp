#include "pipeline/stages.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

namespace easel {

namespace {

// Tensors of a single file that belong to no part.
void audit_single_file(const Checkpoint& c) {
  Faults faults;
  std::size_t count = 0;
  const auto belongs = [&](const std::string& name) {
    for (const FilePart& part : c.identity.parts) {
      if (name.starts_with(part.prefix)) return true;
    }
    return is_known_extra(name);
  };
  for (const std::string& name : c.single_file->names()) {
    constexpr std::size_t kShown = 20;
    if (!belongs(name) && ++count <= kShown) faults.add(c.path.string() + ": unexpected tensor " + name);
  }
  faults.raise_if_any(ErrorKind::kFile, std::to_string(count) + " tensors are no part of " + c.family->title);
}

const ClipTextSpec& text_spec(const Checkpoint& c, Part part) {
  return (part == Part::kTextEncoder2 ? c.text_encoder_2 : c.text_encoder)->spec;
}

void build(const Checkpoint& c, Part part, const Weights& w, bool with_vae_encoder) {
  switch (part) {
    case Part::kTextEncoder:
    case Part::kTextEncoder2:
      if (c.multilingual)
        XlmRobertaEncoder(w, c.multilingual->spec);
      else
        ClipTextEncoder(w, text_spec(c, part));
      break;
    case Part::kUNet:
      UNet(w, c.unet);
      break;
    case Part::kVae:
      VaeDecoder(w, c.vae);
      if (with_vae_encoder && c.vae.has_encoder()) VaeEncoder(w, c.vae);
      break;
  }
}

// Of the tensors that were asked for, of `source`.
int64_t bytes_in(const Weights& shapes, const WeightSource& source, at::ScalarType dtype, bool are_packed) {
  int64_t bytes = 0;
  for (const auto& [name, shape] : shapes.binding().asked) {
    const std::optional<TensorInfo> stored = source.info(name);
    bytes += are_packed ? packed_bytes(shape, dtype, stored ? stored->dtype : at::kFloat)
                        : c10::multiply_integers(shape) * static_cast<int64_t>(c10::elementSize(dtype));
  }
  return bytes;
}

// A text encoder is called once or twice.
bool is_called_often(Part part) { return part == Part::kUNet || part == Part::kVae; }

Weights of_many_calls(const Weights& w, const Precision& precision) {
  const Weights packed = w.packed();
  return precision.int8 ? packed.allowing_int8() : packed;
}

bool are_packed(Part part, const Precision& precision) {
  return is_called_often(part) && precision.device.is_cpu() && kernels() == Kernels::kFast;
}

}  // namespace

std::function<bool(const std::string&)> unread_tensors(const Checkpoint& c, Part part) {
  if (part == Part::kUNet || part == Part::kVae) return is_known_extra;
  if (c.multilingual)
    return [](const std::string& name) { return is_known_extra(name) || name.starts_with("roberta.pooler."); };
  // Single files of SD2.x hold the layer that its folders leave out.
  const std::string beyond = "encoder.layers." + std::to_string(text_spec(c, part).num_hidden_layers) + ".";
  const bool left_out = c.layers_left_out() > 0;
  return [=](const std::string& name) { return is_known_extra(name) || (left_out && name.starts_with(beyond)); };
}

void audit(const Checkpoint& c, bool prefer_half) {
  if (c.single_file) audit_single_file(c);
  Faults faults;
  for (const Part part : parts_of(c)) {
    try {
      // On the meta device shapes are compared and no value is read.
      const Weights w(open_weights(c, part, prefer_half), at::kMeta, at::kFloat);
      build(c, part, w, /*with_vae_encoder=*/true);
      w.finish(name_of(part), unread_tensors(c, part));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kFile) throw;
      for (const std::string& fault : error.faults()) faults.add(fault);
    }
  }
  faults.raise_if_any(ErrorKind::kFile);
}

// One choice of files for all parts, so that a run reads what its model hash says.
SourcePtr StageSet::source_of(Part part) const {
  return open_weights(checkpoint_, part, precision_.unet != at::kFloat);
}

int64_t StageSet::bytes_of(Part part) {
  const auto [entry, is_new] = bytes_.emplace(part, 0);
  if (!is_new) return entry->second;
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  build(checkpoint_, part, shapes, /*with_vae_encoder=*/false);
  const at::ScalarType dtype = part == Part::kUNet  ? precision_.unet
                               : part == Part::kVae ? precision_.vae
                                                    : precision_.text;
  return entry->second = bytes_in(shapes, *source_of(part), dtype, are_packed(part, precision_));
}

template <class Network, class Spec>
Network StageSet::load(Part part, at::ScalarType dtype, const Spec& spec) const {
  const Weights w(with_loras(source_of(part), name_of(part), applied_to(part, loras_), loras_at_runtime_),
                  precision_.device, dtype);
  Network network(is_called_often(part) ? of_many_calls(w, precision_) : w.packed_where_quick(), spec);
  // Names were checked by audit(); values are checked as they are bound.
  w.finish(name_of(part), [](const std::string&) { return true; });
  return network;
}

template <class Network, class Spec>
const Network& StageSet::loaded(std::optional<Network>& stage, Part part, at::ScalarType dtype, const Spec& spec,
                                double* seconds) {
  if (!stage) {
    const double start = now_seconds();
    stage.emplace(load<Network>(part, dtype, spec));
    *seconds += now_seconds() - start;
  }
  return *stage;
}

void StageSet::load_unet_ahead() {
  if (unet_ || unet_ahead_.valid()) return;
  unet_ahead_ = std::async(std::launch::async, [this, threads = at::get_num_threads()] {
    const c10::InferenceMode guard;  // the caller's, and its number of threads, are not this thread's
    set_threads(threads);
    return load<UNet>(Part::kUNet, precision_.unet, checkpoint_.unet);
  });
}

void StageSet::drop_unet_ahead() {
  if (unet_ahead_.valid()) unet_ahead_.wait();
  unet_ahead_ = {};
}

namespace {

bool is_same(const std::vector<AppliedLora>& a, const std::vector<AppliedLora>& b) {
  const auto same = [](const AppliedLora& x, const AppliedLora& y) {
    return x.lora == y.lora && x.strength == y.strength;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

}  // namespace

void StageSet::use_loras(std::vector<OpenLora> loras, bool at_runtime) {
  drop_unet_ahead();
  const auto differs = [&](Part part) {
    const std::vector<AppliedLora> before = applied_to(part, loras_), now = applied_to(part, loras);
    return !is_same(before, now) || (!now.empty() && at_runtime != loras_at_runtime_);
  };
  const bool first = differs(Part::kTextEncoder), second = differs(Part::kTextEncoder2);
  if (differs(Part::kUNet)) unet_.reset();
  if (first) text_encoder_.reset();
  if (second) text_encoder_2_.reset();
  if (first || second) encoded.clear();
  loras_ = std::move(loras);
  loras_at_runtime_ = at_runtime;
}

const ClipTextEncoder& StageSet::text_encoder(Part part, double* seconds) {
  auto& stage = part == Part::kTextEncoder2 ? text_encoder_2_ : text_encoder_;
  return loaded(stage, part, precision_.text, text_spec(checkpoint_, part), seconds);
}

const XlmRobertaEncoder& StageSet::multilingual(double* seconds) {
  return loaded(multilingual_, Part::kTextEncoder, precision_.text, checkpoint_.multilingual->spec, seconds);
}

const UNet& StageSet::unet(double* seconds) {
  if (unet_ahead_.valid()) {
    const double start = now_seconds();
    unet_.emplace(unet_ahead_.get());
    *seconds += now_seconds() - start;
  }
  return loaded(unet_, Part::kUNet, precision_.unet, checkpoint_.unet, seconds);
}

void StageSet::use_controls(const std::vector<ControlPtr>& controls) {
  std::erase_if(controls_, [&](const auto& one) {
    return std::find(controls.begin(), controls.end(), one.first) == controls.end();
  });
  for (const ControlPtr& control : controls) controls_.try_emplace(control);
}

const ControlNet& StageSet::control(const Control& control, double* seconds) {
  const auto found =
      std::find_if(controls_.begin(), controls_.end(), [&](const auto& one) { return one.first.get() == &control; });
  TORCH_CHECK(found != controls_.end(), "a ControlNet that is not in use");
  std::optional<ControlNet>& stage = found->second;
  if (!stage) {
    const double start = now_seconds();
    const Weights w(open_weights(control, precision_.unet != at::kFloat), precision_.device, precision_.unet);
    ControlNet network(of_many_calls(w, precision_), control.spec);
    w.finish("controlnet", [](const std::string&) { return true; });  // names were checked when it was opened
    stage.emplace(std::move(network));
    *seconds += now_seconds() - start;
  }
  return *stage;
}

int64_t StageSet::control_bytes() {
  int64_t bytes = 0;
  for (const auto& [control, loaded] : controls_) {
    bytes += control->values * static_cast<int64_t>(c10::elementSize(precision_.unet));
  }
  return bytes;
}

void StageSet::free_unet() {
  drop_unet_ahead();
  unet_.reset();
  for (auto& [control, loaded] : controls_) loaded.reset();
}

const VaeDecoder& StageSet::vae_decoder(double* seconds) {
  return loaded(vae_decoder_, Part::kVae, precision_.vae, checkpoint_.vae, seconds);
}

const VaeEncoder& StageSet::vae_encoder(double* seconds) {
  return loaded(vae_encoder_, Part::kVae, precision_.vae, checkpoint_.vae, seconds);
}

int64_t StageSet::vae_encoder_bytes() {
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  VaeEncoder(shapes, checkpoint_.vae);
  return bytes_in(shapes, *source_of(Part::kVae), precision_.vae, are_packed(Part::kVae, precision_));
}

void StageSet::free_text_encoders() {
  multilingual_.reset();
  text_encoder_.reset();
  text_encoder_2_.reset();
}

bool StageSet::is_loaded(Part part) const {
  switch (part) {
    case Part::kTextEncoder:
      return text_encoder_.has_value() || multilingual_.has_value();
    case Part::kTextEncoder2:
      return text_encoder_2_.has_value();
    case Part::kUNet:
      return unet_.has_value();
    case Part::kVae:
      return vae_decoder_.has_value();
  }
  return false;
}

}  // namespace easel
