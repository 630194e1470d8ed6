#include "cli/results.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "easel/image.h"

namespace easel::cli {

void claim_standard_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    // Opened the wrong way round, so that reading standard input and writing results still fail (EBADF).
    ::open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_WRONLY);  // takes the lowest free number: fd
  }
}

void print_text(std::string_view text) { write_to_descriptor(STDOUT_FILENO, text, "standard output"); }

void print_line(std::string_view text) { print_text(std::string(text) + "\n"); }

}  // namespace easel::cli
