#include "pipeline/stages.h"

namespace easel {

namespace {

bool is_half(at::ScalarType dtype) { return dtype != at::kFloat; }

// Tensors of a single file that no part reads under any name.
void audit_single_file(const Checkpoint& c) {
  std::set<std::string> read;
  for (const Part part : {Part::kTextEncoder, Part::kUNet, Part::kVae}) {
    for (const std::string& stored : stored_names(c, part)) read.insert(stored);
  }
  Faults faults;
  std::size_t count = 0;
  for (const std::string& name : c.single_file->names()) {
    constexpr std::size_t kShown = 20;
    if (read.contains(name) || is_known_extra(name)) continue;
    if (++count <= kShown) faults.add(c.path.string() + ": unexpected tensor " + name);
  }
  faults.raise_if_any(ErrorKind::kFile, std::to_string(count) + " tensors are no part of " + c.family->title);
}

}  // namespace

void audit(const Checkpoint& c, bool prefer_half) {
  if (c.single_file) audit_single_file(c);
  Faults faults;
  const auto check = [&](Part part, auto&& build) {
    try {
      // On the meta device shapes are compared and no value is read.
      const Weights w(open_weights(c, part, prefer_half), at::kMeta, at::kFloat);
      build(w);
      w.finish(name_of(part), is_known_extra);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kFile) throw;
      for (const std::string& fault : error.faults()) faults.add(fault);
    }
  };
  check(Part::kTextEncoder, [&](const Weights& w) { ClipTextEncoder(w, c.text_encoder); });
  check(Part::kUNet, [&](const Weights& w) { UNet(w, c.unet); });
  check(Part::kVae, [&](const Weights& w) {
    VaeDecoder(w, c.vae);
    VaeEncoder(w, c.vae);
  });
  faults.raise_if_any(ErrorKind::kFile);
}

namespace {

// Of the networks that `build` binds, in this dtype.
template <class Build>
int64_t bytes_of(at::ScalarType dtype, Build&& build) {
  const Weights shapes(nullptr, at::kMeta, dtype);
  build(shapes);
  int64_t values = 0;
  for (const auto& [name, shape] : shapes.binding().asked) values += c10::multiply_integers(shape);
  return values * static_cast<int64_t>(c10::elementSize(dtype));
}

}  // namespace

int64_t StageSet::bytes_to_load() const {
  const Checkpoint& c = checkpoint_;
  int64_t bytes = 0;
  if (!text_encoder_) bytes += bytes_of(precision_.text, [&](const Weights& w) { ClipTextEncoder(w, c.text_encoder); });
  if (!unet_) bytes += bytes_of(precision_.unet, [&](const Weights& w) { UNet(w, c.unet); });
  if (!vae_decoder_) bytes += bytes_of(precision_.vae, [&](const Weights& w) { VaeDecoder(w, c.vae); });
  return bytes;
}

template <class Network, class Spec>
const Network& StageSet::loaded(std::optional<Network>& stage, Part part, at::ScalarType dtype, const Spec& spec,
                                double* seconds) {
  if (!stage) {
    const double start = now_seconds();
    const Weights w(open_weights(checkpoint_, part, is_half(dtype)), precision_.device, dtype);
    Network network(w, spec);
    // Names were checked by audit(); values are checked as they are bound.
    w.finish(name_of(part), [](const std::string&) { return true; });
    stage.emplace(std::move(network));
    *seconds += now_seconds() - start;
  }
  return *stage;
}

const ClipTextEncoder& StageSet::text_encoder(double* seconds) {
  return loaded(text_encoder_, Part::kTextEncoder, precision_.text, checkpoint_.text_encoder, seconds);
}

const UNet& StageSet::unet(double* seconds) {
  return loaded(unet_, Part::kUNet, precision_.unet, checkpoint_.unet, seconds);
}

const VaeDecoder& StageSet::vae_decoder(double* seconds) {
  return loaded(vae_decoder_, Part::kVae, precision_.vae, checkpoint_.vae, seconds);
}

}  // namespace easel
