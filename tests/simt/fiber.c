/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers: a stack and a stack pointer each. A switch pushes the registers that a C function must
 * preserve, exchanges the stack pointers and pops them again, some nanoseconds where swapcontext()
 * would make two system calls; a block of 1,024 threads switches a lot.
 *
 * The address sanitizer keeps a shadow of the stack that runs and, looking for uses after return, a
 * second stack; it is told of each switch.
 */
#include "fiber.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#	define HAVE_ASAN 1
#elif defined(__has_feature)
#	if __has_feature(address_sanitizer)
#		define HAVE_ASAN 1
#	endif
#endif
#ifdef HAVE_ASAN
#	include <sanitizer/asan_interface.h>
#	include <sanitizer/common_interface_defs.h>
#	define STACK_SIZE (256 * 1024)
#else
#	define STACK_SIZE (128 * 1024)
#endif

#define GUARD 4096 /* below each stack: a fault of the processor rather than a silent overrun */

/* Saves the registers and the stack pointer, takes the other's. */
void fiber_swap(void **save, void *to);

#if defined(__x86_64__)
#	define FRAME_WORDS 8 /* six registers, the return address, alignment */
__asm__(".text\n"
	".hidden fiber_swap\n"
	".globl fiber_swap\n"
	".type fiber_swap, @function\n"
	"fiber_swap:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size fiber_swap, .-fiber_swap\n");
static const unsigned return_word = 6;
#elif defined(__aarch64__)
#	define FRAME_WORDS 20
__asm__(".text\n"
	".hidden fiber_swap\n"
	".globl fiber_swap\n"
	".type fiber_swap, %function\n"
	"fiber_swap:\n"
	"	sub sp, sp, #160\n"
	"	stp x19, x20, [sp, #0]\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	stp x29, x30, [sp, #80]\n"
	"	stp d8, d9, [sp, #96]\n"
	"	stp d10, d11, [sp, #112]\n"
	"	stp d12, d13, [sp, #128]\n"
	"	stp d14, d15, [sp, #144]\n"
	"	mov x2, sp\n"
	"	str x2, [x0]\n"
	"	mov sp, x1\n"
	"	ldp x19, x20, [sp, #0]\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp x29, x30, [sp, #80]\n"
	"	ldp d8, d9, [sp, #96]\n"
	"	ldp d10, d11, [sp, #112]\n"
	"	ldp d12, d13, [sp, #128]\n"
	"	ldp d14, d15, [sp, #144]\n"
	"	add sp, sp, #160\n"
	"	ret\n"
	".size fiber_swap, .-fiber_swap\n");
static const unsigned return_word = 11; /* x30 */
#else
#	error "fiber_swap() is written for x86-64 and aarch64"
#endif

/* One piece of address space for all stacks, so that a look tells whose an address is. */
static char *arena;
static size_t arena_used;

int fiber_begin(struct fiber *f, void (*entry)(void))
{
	if (!arena) {
		void *p = mmap(NULL, FIBER_MAX * (size_t)STACK_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			return -ENOMEM;
		arena = p;
	}
	if (!f->stack) {
		if (arena_used == FIBER_MAX * (size_t)STACK_SIZE)
			return -ENOMEM;
		char *stack = arena + arena_used;
		arena_used += STACK_SIZE;
		mprotect(stack, GUARD, PROT_NONE);
		f->stack = stack + GUARD;
		f->size = STACK_SIZE - GUARD;
	}
#ifdef HAVE_ASAN
	/* A fiber that was left in the middle of its kernel has poisoned frames. */
	__asan_unpoison_memory_region(f->stack, f->size);
#endif
	uintptr_t *frame = (uintptr_t *)(void *)(f->stack + f->size) - FRAME_WORDS;
	memset(frame, 0, FRAME_WORDS * sizeof *frame);
	frame[return_word] = (uintptr_t)entry;
	f->sp = frame;
	f->fake = NULL;
	return 0;
}

bool fiber_stack(const void *at)
{
	return arena && (uintptr_t)at - (uintptr_t)arena < FIBER_MAX * (size_t)STACK_SIZE;
}

#ifdef HAVE_ASAN
static struct fiber *left; /* who switched last */

static void arrived(void *fake)
{
	const void *stack;
	size_t size;
	__sanitizer_finish_switch_fiber(fake, &stack, &size);
	if (left->host) { /* launches come from any thread: learn where its stack is */
		memcpy(&left->stack, &stack, sizeof stack);
		left->size = size;
	}
}
#endif

void fiber_switch(struct fiber *from, struct fiber *to)
{
#ifdef HAVE_ASAN
	left = from;
	__sanitizer_start_switch_fiber(&from->fake, to->stack, to->size);
#endif
	fiber_swap(&from->sp, to->sp);
#ifdef HAVE_ASAN
	arrived(from->fake);
#endif
}

void fiber_entered(void)
{
#ifdef HAVE_ASAN
	arrived(NULL);
#endif
}
