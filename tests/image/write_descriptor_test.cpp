// Standard output and its like: pipes that are full, closed or on a full disk.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "easel/image.h"
#include "image/descriptor.h"
#include "image/fault.h"

namespace easel {
namespace {

using testing::Fault;
using testing::fault_of;
using testing::is_blocked;
using testing::is_pending;

struct Pipe {
  explicit Pipe(int flags = 0) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, flags), 0);
    out = std::make_unique<Descriptor>(ends[0]);
    in = std::make_unique<Descriptor>(ends[1]);
  }
  std::unique_ptr<Descriptor> out, in;
};

std::string drain(int fd) {
  std::string all;
  char part[4096];
  for (ssize_t got; (got = ::read(fd, part, sizeof part)) != 0;) {
    if (got > 0) all.append(part, static_cast<std::size_t>(got));
    if (got < 0 && errno != EAGAIN) break;
  }
  return all;
}

TEST(WriteToDescriptor, MoreThanAPipeHolds) {
  for (const int flags : {0, O_NONBLOCK}) {
    Pipe pipe(flags);
    std::string got;
    std::thread reader([&] { got = drain(pipe.out->get()); });
    const std::string bytes(1'000'000, 'x');
    write_to_descriptor(pipe.in->get(), bytes, "standard output");
    pipe.in->close();
    reader.join();
    EXPECT_EQ(got, bytes) << flags;
  }
}

// The default action of SIGPIPE is to end the program: that this test goes on is part of it.
TEST(WriteToDescriptor, AClosedPipeIsAnError) {
  Pipe pipe;
  pipe.out->close();
  const Fault fault = fault_of([&] { write_to_descriptor(pipe.in->get(), "x", "standard output"); });
  EXPECT_EQ(fault.what, "standard output: cannot be written: the program that reads it has closed it (EPIPE)");
  EXPECT_FALSE(is_pending(SIGPIPE));
  EXPECT_FALSE(is_blocked(SIGPIPE));
}

TEST(WriteToDescriptor, TheSystemsReasonIsGiven) {
  const Descriptor full(::open("/dev/full", O_WRONLY));
  const Fault fault = fault_of([&] { write_to_descriptor(full.get(), "x", "standard output"); });
  EXPECT_EQ(fault.what, "standard output: cannot be written: No space left on device");
  EXPECT_EQ(fault.hint, "make room, or write to another disk");
  EXPECT_EQ(fault_of([&] { write_to_descriptor(-1, "x", "standard output"); }).what,
            "standard output: cannot be written: Bad file descriptor");
}

TEST(WriteToDescriptor, ASignalEndsTheWait) {
  Pipe pipe(O_NONBLOCK);
  request_interrupt(SIGINT);
  EXPECT_THROW(write_to_descriptor(pipe.in->get(), std::string(1'000'000, 'x'), "standard output"), Interrupted);
  request_interrupt(0);
}

}  // namespace
}  // namespace easel
