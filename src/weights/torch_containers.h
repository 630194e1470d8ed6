// The two containers of torch.save: a pickle and the bytes of the storages that it names.
#pragma once

#include "weights/pickle.h"

namespace easel {

// Of torch 1.6 and later: a zip of NAME/data.pkl, NAME/data/KEY and a few small entries. Storages are views of `bytes`.
// Throws Error(kFile) with `where`; big-endian files and TorchScript programs are refused.
pickle::Pickle read_torch_zip(std::string_view bytes, const std::string& where);

// Before 1.6: five pickles (a magic number, the protocol 1001, facts of the machine, the object, the storages' keys)
// and per key the count of elements and the elements.
pickle::Pickle read_torch_stream(std::string_view bytes, const std::string& where);

}  // namespace easel
