/* What runs before main on a bare Cortex-M. Copy it with the linker script; only initialise_monitor_handles and the two calls of exit need semihosting. */
#include <stdint.h>
#include <stdlib.h>

/* Named in mps2.ld. */
extern uint32_t data_start[], data_end[], data_source[], bss_start[], bss_end[], stack_top[];

int main(void);
void reset(void); /* mps2.ld names it as the entry */
void initialise_monitor_handles(void); /* librdimon: opens stdin and stdout on the host */

static void fault(void)
{
    exit(101); /* or QEMU would go on for ever, locked up */
}

void reset(void)
{
#ifdef __ARM_FP
    /* The FPU is off after reset, and float code would fault: full access to coprocessors 10 and 11 in CPACR. */
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;
    __asm volatile("dsb\n\tisb" ::: "memory");
#endif
    for (uint32_t *to = data_start, *from = data_source; to < data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = bss_start; to < bss_end;) {
        *to++ = 0;
    }
    initialise_monitor_handles();
    exit(main());
}

/* The processor reads its stack pointer and the address of reset from address 0; the next five are faults. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {stack_top, {reset, fault, fault, fault, fault, fault}};
