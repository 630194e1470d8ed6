// What a request says of a picture that it begins with, and of a second pass.
#pragma once

#include "pipeline/effects.h"

namespace easel {

// Size, strength and the other fields of --init-img, --mask, --outpaint and --hires. Adds every fault; throws
// Error(kFile) for a picture whose size cannot be read.
void fill_picture(Request& request, const Checkpoint& checkpoint, Faults& faults);

// Fields that want a picture, a mask or a second pass that the request does not have.
void find_idle_picture_fields(const Request& given, IdleFields& idle);

// Adds a fault for fields that exclude each other, and for models that want a picture.
void refuse_pictures(const Request& given, const Checkpoint& checkpoint, Faults& faults);

// The second pass of a resolved request with --hires, as an image-to-image request of the full size; nullopt without.
std::optional<Request> second_pass(const Request& resolved);

}  // namespace easel
