#include "cli/out_of_memory.h"

#include <c10/util/Exception.h>

#include <new>

namespace easel::cli {

namespace {

Error out_of_memory(const std::string& what) {
  return {ErrorKind::kMemory, "out of memory: " + what, "a smaller -W and -H needs less; so does --dtype bf16"};
}

std::string first_line(const c10::Error& error) {
  const std::string what = error.what_without_backtrace();
  return what.substr(0, what.find('\n'));
}

}  // namespace

std::optional<Error> out_of_memory_in_flight() {
  try {
    throw;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kMemory) return error;
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(first_line(error));
  } catch (const c10::Error& error) {  // the CPU allocator's failure has no type of its own
    const std::string line = first_line(error);
    const std::size_t at = line.find("DefaultCPUAllocator: ");
    if (at != std::string::npos) return out_of_memory(line.substr(at));
  } catch (const std::bad_alloc&) {
    return out_of_memory("the system gave no more");
  } catch (...) {
  }
  return std::nullopt;
}

}  // namespace easel::cli
