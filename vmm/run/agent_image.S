/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's program (guest/agent/), as read-only data of the monitor. */
	.section .rodata.agent_image, "a"
	.balign 16
	.globl agent_image, agent_image_end
	.hidden agent_image, agent_image_end
agent_image:
	.incbin AGENT
agent_image_end:
	.section .note.GNU-stack, "", %progbits
